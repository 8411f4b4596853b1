-- Put before every other script.
--
-- pressroom:waiting:QUEUE:POOL  sorted set: ids of waiting tasks, scored with their turn
-- pressroom:pools:QUEUE:LANE    set: the lane's pools with waiting tasks
-- pressroom:turns:QUEUE         hash: the turn reached (' now'), and each owner's last one, where it is still to come
-- pressroom:bell:QUEUE:LANE     list: rings (at most one waits) for workers that have nothing to do
-- pressroom:limit:POOL          hash: what is known of a model's limits (see limits.lua)
-- pressroom:flight:POOL         hash: worker -> its calls in flight
-- rq:queue:QUEUE, rq:job:ID...  the picture for RQ's own tools; only the keys that these read are kept
--
-- Turns are those of start-time fair queueing (Goyal, Vin, Cheng, 1996): an owner's next task gets the turn after
-- its last one, but never one that has passed. So owners alternate, however many tasks one of them has.
local HOUR = 3600
local FEW_OWNERS = 1000

local function lane_of(pool) return string.match(pool, '^[^:]*') end

-- Whether a pool's tasks call a model, whose limits then hold.
local function has_limit(pool) return string.find(pool, ':', 1, true) ~= nil end

local function show(id, queue, status, now)
  local key = 'rq:job:' .. id
  redis.call('HSET', key, 'status', status, 'origin', queue, 'description', 'task ' .. id,
    'data', '["jobs.entry.perform", null, [' .. id .. '], {}]', 'created_at', now, 'enqueued_at', now,
    'timeout', '-1', 'result_ttl', '0', 'failure_ttl', '300')
  -- Only a picture for tools: the worker does not need it, so it may go before a long wait ends.
  redis.call('EXPIRE', key, 86400)
end

local function ring(queue, lane)
  local bell = 'pressroom:bell:' .. queue .. ':' .. lane
  if redis.call('LLEN', bell) == 0 then
    redis.call('RPUSH', bell, '1')
    redis.call('EXPIRE', bell, HOUR)
  end
end

-- Owners whose turns have passed are forgotten, a few more at a time than come new: nobody has to look at all of them.
local function forget_passed(turns, reached, count)
  if redis.call('HLEN', turns) <= FEW_OWNERS then return end
  local cursor = redis.call('HGET', turns, ' cursor') or '0'
  local found = redis.call('HSCAN', turns, cursor, 'COUNT', 2 * count + 10)
  redis.call('HSET', turns, ' cursor', found[1])
  for i = 1, #found[2], 2 do
    local owner = found[2][i]
    if string.sub(owner, 1, 1) ~= ' ' and tonumber(found[2][i + 1]) <= reached then redis.call('HDEL', turns, owner) end
  end
end

-- tasks: {id, pool, owner, is_first}; those that come first have waited before.
local function push(queue, tasks, now)
  redis.call('SADD', 'rq:queues', 'rq:queue:' .. queue)
  local turns = 'pressroom:turns:' .. queue
  local reached = tonumber(redis.call('HGET', turns, ' now') or '0')
  local last, pools, shown = {}, {}, {RPUSH = {}, LPUSH = {}}
  for i, task in ipairs(tasks) do
    local id, pool, owner = task[1], task[2], task[3]
    if not last[owner] then last[owner] = math.max(reached, tonumber(redis.call('HGET', turns, owner) or '0')) end
    local turn = task[4] and reached - 1 + i * 1e-6 or last[owner] + 1
    if redis.call('ZADD', 'pressroom:waiting:' .. queue .. ':' .. pool, 'NX', turn, id) == 1 then
      if not task[4] then last[owner] = turn end
      show(id, queue, 'queued', now)
      table.insert(shown[task[4] and 'LPUSH' or 'RPUSH'], id)
      pools[pool] = true
    end
  end
  local owners = 0
  for owner, turn in pairs(last) do
    redis.call('HSET', turns, owner, turn)
    owners = owners + 1
  end
  forget_passed(turns, reached, owners)
  redis.call('EXPIRE', turns, 24 * HOUR)
  for command, ids in pairs(shown) do
    for first = 1, #ids, 1000 do
      redis.call(command, 'rq:queue:' .. queue, unpack(ids, first, math.min(first + 999, #ids)))
    end
  end
  for pool in pairs(pools) do
    redis.call('SADD', 'pressroom:pools:' .. queue .. ':' .. lane_of(pool), pool)
    ring(queue, lane_of(pool))
  end
end

local function later(id, queue, due, now)
  show(id, queue, 'scheduled', now)
  redis.call('ZADD', 'rq:scheduler:scheduled_jobs', due, id)
end

local function seconds()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1e6
end
