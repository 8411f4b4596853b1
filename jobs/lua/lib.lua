-- Put before every other script. Only the keys that RQ's own tools read are kept.
local function show(id, queue, status, now)
  local key = 'rq:job:' .. id
  redis.call('HSET', key, 'status', status, 'origin', queue, 'description', 'task ' .. id,
    'data', '["jobs.entry.perform", null, [' .. id .. '], {}]', 'created_at', now, 'enqueued_at', now,
    'timeout', '-1', 'result_ttl', '0', 'failure_ttl', '300')
  -- Only a picture for tools: the worker does not need it, so it may go before a long wait ends.
  redis.call('EXPIRE', key, 86400)
end

local function push(queue, ids, now, command)
  redis.call('SADD', 'rq:queues', 'rq:queue:' .. queue)
  for _, id in ipairs(ids) do show(id, queue, 'queued', now) end
  for first = 1, #ids, 1000 do
    redis.call(command, 'rq:queue:' .. queue, unpack(ids, first, math.min(first + 999, #ids)))
  end
end

local function later(id, queue, due, now)
  show(id, queue, 'scheduled', now)
  redis.call('ZADD', 'rq:scheduler:scheduled_jobs', due, id)
end
