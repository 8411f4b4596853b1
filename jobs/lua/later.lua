-- ARGV: now, then id, queue, due (Unix seconds) for each. Have the clock announce them when due.
for i = 2, #ARGV, 3 do later(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[1]) end
