-- ARGV[1]: what happened in a worker lately, as JSON (see jobs/ledger.py).
local doc = cjson.decode(ARGV[1])
local worker = 'rq:worker:' .. doc.worker
local executions = worker .. ':executions'

for _, run in ipairs(doc.started) do
  local id, execution, queue, ends = run[1], run[2], run[3], run[4]
  local pair = id .. ':' .. execution
  show(id, queue, 'started', doc.now)
  redis.call('HSET', 'rq:job:' .. id, 'started_at', doc.now, 'worker_name', doc.worker, 'last_heartbeat', doc.now)
  redis.call('HSET', 'rq:execution:' .. pair, 'id', execution, 'job_id', id, 'worker_name', doc.worker,
    'created_at', doc.time, 'last_heartbeat', doc.time)
  redis.call('EXPIREAT', 'rq:execution:' .. pair, ends)
  redis.call('ZADD', 'rq:wip:' .. queue, ends, pair)
  redis.call('SADD', executions, pair)
end

for _, queue in ipairs({'high', 'default', 'low'}) do
  local wip = 'rq:wip:' .. queue
  redis.call('ZREMRANGEBYSCORE', wip, '-inf', doc.time)
  -- What a worker that died left here ends with the last of it, also when nobody writes any more.
  local last = redis.call('ZREVRANGE', wip, 0, 0, 'WITHSCORES')[2]
  if last then redis.call('EXPIREAT', wip, last) end
end

for _, run in ipairs(doc.ended) do
  local id, execution, queue, outcome = run[1], run[2], run[3], run[4]
  local pair = id .. ':' .. execution
  redis.call('ZREM', 'rq:wip:' .. queue, pair)
  redis.call('SREM', executions, pair)
  redis.call('UNLINK', 'rq:execution:' .. pair)
  if outcome == 'failed' then
    local failed = 'rq:failed:' .. queue
    redis.call('HSET', 'rq:job:' .. id, 'status', 'failed', 'ended_at', doc.now)
    redis.call('EXPIRE', 'rq:job:' .. id, 300)
    redis.call('ZREMRANGEBYSCORE', failed, '-inf', doc.time)
    redis.call('ZADD', failed, doc.time + 300, id)
    redis.call('EXPIRE', failed, 300)
  else
    redis.call('UNLINK', 'rq:job:' .. id)
  end
end

for _, task in ipairs(doc.later) do later(task[1], task[2], task[3], doc.now) end
for queue, tasks in pairs(doc.back) do push(queue, tasks, doc.now) end
redis.call('HSET', worker, 'state', doc.state)
redis.call('HINCRBY', worker, 'successful_job_count', doc.succeeded)
redis.call('HINCRBY', worker, 'failed_job_count', doc.failed)
redis.call('HINCRBYFLOAT', worker, 'total_working_time', doc.seconds)
-- The worker's beat extends both; this only makes sure that they never stay for ever.
redis.call('EXPIRE', worker, doc.ttl)
redis.call('EXPIRE', executions, doc.ttl)
