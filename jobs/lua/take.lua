-- ARGV: queue, room for each queue, most urgent first. A queue's room is what it and all less urgent
-- ones may start together. Returns ids in the order to start them, or false while RQ is suspended.
if redis.call('EXISTS', 'rq:suspended') == 1 then return false end
local taken, ids = {}, {}
for i = 1, #ARGV, 2 do
  local count = tonumber(ARGV[i + 1])
  local below = 0
  for j = i - 2, 1, -2 do
    below = below + taken[j]
    count = math.min(count, tonumber(ARGV[j + 1]) - below)
  end
  taken[i] = 0
  if count > 0 then
    local popped = redis.call('LPOP', 'rq:queue:' .. ARGV[i], count)
    if popped then
      taken[i] = #popped
      for _, id in ipairs(popped) do ids[#ids + 1] = id end
    end
  end
end
return ids
