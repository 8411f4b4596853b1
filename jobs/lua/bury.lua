-- ARGV: names of workers that are gone. Removes what RQ's tools would still show of them.
for _, name in ipairs(ARGV) do
  local worker = 'rq:worker:' .. name
  local executions = worker .. ':executions'
  for _, pair in ipairs(redis.call('SMEMBERS', executions)) do
    for _, queue in ipairs({'high', 'default', 'low'}) do redis.call('ZREM', 'rq:wip:' .. queue, pair) end
    redis.call('UNLINK', 'rq:execution:' .. pair)
  end
  redis.call('SREM', 'rq:workers', worker)
  for _, queue in ipairs({'high', 'default', 'low'}) do redis.call('SREM', 'rq:workers:' .. queue, worker) end
  redis.call('UNLINK', worker, executions)
end
