-- ARGV[1]: JSON {worker, lanes: {LANE: [[QUEUE, room]...]}, first: {LANE: [[QUEUE, count]...]}, flight: {POOL: calls},
-- ended: {POOL: {tasks, calls, answers, tokens}}, rules: {POOL: limits}}. Lanes name queues most urgent first; a queue's
-- room is what it and all less urgent ones may start together; of the queues in `first`, in this order, so many tasks go
-- before all others. Returns [seconds until there may be more, or '', pools that this worker has calls in flight of, tasks in the
-- order to start them: [queue, pool, ids]...]; false while RQ is suspended.
local MOST_POOLS = 100
local doc = cjson.decode(ARGV[1])
if redis.call('EXISTS', 'rq:suspended') == 1 then return false end
local now, limits, taken, total = seconds(), {}, {}, 0
local again = nil

local function limit_of(pool)
  local limit = limits[pool]
  if not limit then
    limit = {fields = read_limit(pool), rules = doc.rules[pool] or {}, own = doc.flight[pool] or 0}
    limits[pool] = limit
    if has_limit(pool) then
      report_flight(pool, limit.fields, doc.worker, limit.own, now)
      if doc.ended[pool] then settle(limit.fields, limit.rules, doc.ended[pool], now) end
      limit.free, limit.again = permits(limit.fields, limit.rules, now)
    else
      limit.free = math.huge
    end
  end
  return limit
end

for pool in pairs(doc.flight) do limit_of(pool) end
for pool in pairs(doc.ended) do limit_of(pool) end

-- The pools of a lane with tasks waiting in a queue, each with its next turn.
local function waiting(queue, lane)
  local found, pools = {}, 'pressroom:pools:' .. queue .. ':' .. lane
  -- Of very many pools (names of models are the callers' choice) some are looked at, others the next time.
  if redis.call('SCARD', pools) > MOST_POOLS then again = math.min(again or 0.05, 0.05) end
  for _, pool in ipairs(redis.call('SRANDMEMBER', pools, MOST_POOLS)) do
    local key = 'pressroom:waiting:' .. queue .. ':' .. pool
    local head = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if head[1] then
      local limit = limit_of(pool)
      if limit.free > 0 then
        found[#found + 1] = {pool = pool, key = key, turn = tonumber(head[2]), limit = limit}
      elseif limit.again then
        again = math.min(again or limit.again, limit.again)
      else
        again = math.min(again or 0.25, 0.25) -- another worker may end a call
      end
    else
      redis.call('SREM', pools, pool)
    end
  end
  return found
end

-- Takes up to `count` tasks of a queue and lane, in turn; returns how many it found.
local function take(queue, lane, count)
  local found, number, turn = {}, 0, nil
  if count > 0 then found = waiting(queue, lane) end
  while number < count and #found > 0 do
    local best = 1
    for i = 2, #found do if found[i].turn < found[best].turn then best = i end end
    local pool = found[best]
    -- From the only pool, as many as there are room and permits for, at once.
    local most = #found == 1 and math.min(count - number, pool.limit.free) or 1
    local popped = redis.call('ZPOPMIN', pool.key, most)
    local group = taken[#taken]
    if not group or group[1] ~= queue or group[2] ~= pool.pool then
      group = {queue, pool.pool, {}}
      taken[#taken + 1] = group
    end
    for i = 1, #popped, 2 do
      table.insert(group[3], popped[i])
      turn = math.max(turn or 0, tonumber(popped[i + 1]))
      local place = redis.call('LPOS', 'rq:queue:' .. queue, popped[i], 'MAXLEN', 1000)
      if place then redis.call('LREM', 'rq:queue:' .. queue, 1, popped[i]) end
    end
    number, total = number + #popped / 2, total + #popped / 2
    pool.limit.free = pool.limit.free - #popped / 2
    if has_limit(pool.pool) then
      pool.limit.own = pool.limit.own + #popped / 2
      spend(pool.limit.fields, pool.limit.rules, #popped / 2, now)
    end
    local head = redis.call('ZRANGE', pool.key, 0, 0, 'WITHSCORES')
    if not head[1] or pool.limit.free <= 0 then
      if head[1] then again = math.min(again or 0.25, pool.limit.again or 0.25) end
      table.remove(found, best)
    else
      pool.turn = tonumber(head[2])
    end
  end
  if #found > 0 then ring(queue, lane) end -- there is more, for another worker
  if turn then
    local turns = 'pressroom:turns:' .. queue
    local reached = tonumber(redis.call('HGET', turns, ' now') or '0')
    if turn > reached then
      redis.call('HSET', turns, ' now', turn)
      redis.call('EXPIRE', turns, 24 * HOUR)
    end
  end
  return number
end

-- The room that is left for a queue: what was taken so far counts against that of its own and of all more urgent ones.
local function left(rooms, used, i)
  local least = math.huge
  for j = i, 1, -1 do
    local below = 0
    for k = j, #rooms do below = below + used[k] end
    least = math.min(least, rooms[j][2] - below)
  end
  return least
end

for lane, rooms in pairs(doc.lanes) do
  local used, place = {}, {}
  for i, room in ipairs(rooms) do used[i], place[room[1]] = 0, i end
  for _, wanted in ipairs(doc.first[lane] or {}) do
    local i = place[wanted[1]]
    used[i] = take(wanted[1], lane, math.min(wanted[2], left(rooms, used, i)))
  end
  for i, room in ipairs(rooms) do used[i] = used[i] + take(room[1], lane, left(rooms, used, i)) end
end

-- What overtook others in a long queue stays in RQ's list until it gets to the front there.
for _, room in ipairs(select(2, next(doc.lanes)) or {}) do
  local list = 'rq:queue:' .. room[1]
  for _ = 1, total + 10 do
    local head = redis.call('LINDEX', list, 0)
    if not head then break end
    local status = redis.call('HGET', 'rq:job:' .. head, 'status')
    if status == 'queued' then break end
    redis.call('LPOP', list)
  end
end

for pool, limit in pairs(limits) do
  if has_limit(pool) then
    if limit.own > 0 then redis.call('HSET', 'pressroom:flight:' .. pool, doc.worker, limit.own) end
    redis.call('EXPIRE', 'pressroom:flight:' .. pool, HOUR)
    write_limit(pool, limit.fields)
  end
end
local called = {}
for pool, limit in pairs(limits) do if limit.own and limit.own > 0 then called[#called + 1] = pool end end
return {again and tostring(again) or '', called, taken}
