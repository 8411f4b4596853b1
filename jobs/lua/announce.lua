-- ARGV: now, queue, ids... Put ids at the end of their queue.
local ids = {}
for i = 3, #ARGV do ids[#ids + 1] = ARGV[i] end
push(ARGV[2], ids, ARGV[1], 'RPUSH')
