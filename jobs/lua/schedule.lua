-- ARGV: now, then id, due (Unix seconds) for each schedule: the clock's one entry for its next slot.
for i = 2, #ARGV, 2 do
  local id = 'schedule-' .. ARGV[i]
  local key = 'rq:job:' .. id
  redis.call('HSET', key, 'status', 'scheduled', 'origin', 'default', 'description', 'schedule ' .. ARGV[i],
    'data', '["jobs.entry.fire", null, [' .. ARGV[i] .. '], {}]', 'created_at', ARGV[1], 'timeout', '-1')
  redis.call('EXPIREAT', key, math.ceil(tonumber(ARGV[i + 1])) + 86400)
  redis.call('ZADD', 'rq:scheduler:scheduled_jobs', ARGV[i + 1], id)
end
