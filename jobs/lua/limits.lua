-- How many calls to a model may be in flight. What the settings say holds; what the endpoint says by refusing calls
-- is learned: as with TCP's congestion control, the window opens while nothing is refused, closes to what was in
-- flight when something was, and opens further once in a while to see whether more is possible by now.
--
-- Fields of pressroom:limit:POOL: flight: calls in flight, of all workers; window: how many may be; step: when it
-- may open; ceiling: where calls were refused; pause: seconds until that is tried again; until: nothing before;
-- refused: refusals in a row; requests, tokens: what is left for the minute, as of requests_at, tokens_at;
-- mean: tokens of a task; swept: when dead workers' calls were last left out.
local FIRST_WINDOW, STEP, PROBE, LONGEST_PAUSE, SWEEP = 16, 0.05, 1, 600, 5
-- Before trying for more: a narrow window may only show that there was little to do when a call was refused.
local SHORT_PAUSE, FIRST_PAUSE, NARROW = 5, 20, 4
-- When that is refused, everybody waits again: it should cost no more than a thirtieth of the time, at first.
local COST, MOST_FIRST_PAUSE = 30, 60

local function limit_key(pool) return 'pressroom:limit:' .. pool end

local function read_limit(pool)
  local flat, fields = redis.call('HGETALL', limit_key(pool)), {}
  for i = 1, #flat, 2 do fields[flat[i]] = tonumber(flat[i + 1]) end
  return fields
end

local function write_limit(pool, fields)
  local flat = {}
  for name, value in pairs(fields) do flat[#flat + 1] = name; flat[#flat + 1] = tostring(value) end
  redis.call('DEL', limit_key(pool))
  if #flat > 0 then
    redis.call('HSET', limit_key(pool), unpack(flat))
    redis.call('EXPIRE', limit_key(pool), HOUR)
  end
end

-- One that has signed off is still shown for a while, with the time of that.
local function is_alive(worker)
  local key = 'rq:worker:' .. worker
  return redis.call('EXISTS', key) == 1 and redis.call('HEXISTS', key, 'death') == 0
end

-- A worker says how many calls it has in flight; those of workers that are gone are left out now and then.
local function report_flight(pool, fields, worker, count, now)
  local key = 'pressroom:flight:' .. pool
  local before = tonumber(redis.call('HGET', key, worker) or '0')
  if count ~= before then
    if count > 0 then
      redis.call('HSET', key, worker, count)
      redis.call('EXPIRE', key, HOUR)
    else
      redis.call('HDEL', key, worker)
    end
  end
  fields.flight = math.max(0, (fields.flight or 0) + count - before)
  if math.abs(now - (fields.swept or 0)) >= SWEEP then
    fields.swept = now
    fields.flight = 0
    local flat = redis.call('HGETALL', key)
    for i = 1, #flat, 2 do
      if flat[i] == worker or is_alive(flat[i]) then
        fields.flight = fields.flight + tonumber(flat[i + 1])
      else
        redis.call('HDEL', key, flat[i])
      end
    end
  end
end

-- A bucket that never lets more than `limit` through in any minute: it holds a twelfth, and fills with the rest.
local function refill(fields, name, limit, now)
  local most = math.max(1, limit / 12)
  local rate = math.max(limit - most, limit / 2) / 60
  local level = math.min(most, (fields[name] or most) + math.max(0, now - (fields[name .. '_at'] or now)) * rate)
  fields[name], fields[name .. '_at'] = level, now
  return level, rate
end

-- How many calls may start now, and if none, in how many seconds to ask again.
local function permits(fields, rules, now)
  if (fields['until'] or 0) > now then return 0, fields['until'] - now end
  local flight = fields.flight or 0
  fields.window = fields.window or math.max(FIRST_WINDOW, flight)
  if flight >= fields.window and fields.step and now >= fields.step then
    if fields.ceiling and fields.window < fields.ceiling then
      fields.window = fields.window + math.max(1, math.floor(fields.window / 10)) -- to see whether it is still so
    else
      fields.window, fields.ceiling, fields.pause = fields.window * 2, nil, nil
    end
    fields.step = nil
  end
  if flight >= fields.window and not fields.step then
    fields.step = now + (fields.ceiling and PROBE or STEP)
  end
  local free, again = fields.window - flight, nil
  if free <= 0 then again = math.min(0.25, math.max(0.005, (fields.step or 0) - now)) end
  if rules.max_in_flight and rules.max_in_flight - flight < free then
    free, again = rules.max_in_flight - flight, nil
  end
  if rules.requests_per_minute then
    local level, rate = refill(fields, 'requests', rules.requests_per_minute, now)
    if level < free then
      free = math.floor(level)
      if free < 1 then again = (1 - level) / rate end
    end
  end
  if rules.tokens_per_minute then
    local level, rate = refill(fields, 'tokens', rules.tokens_per_minute, now)
    local mean = math.max(1, fields.mean or 1)
    if level < free * mean then
      free = math.floor(math.max(0, level) / mean)
      if free < 1 then again = (math.min(mean, rules.tokens_per_minute / 12) - level) / rate end
      if free < 1 and again <= 0 then free = 1 end
    end
  end
  return math.max(0, free), again
end

local function spend(fields, rules, calls, now)
  fields.flight = (fields.flight or 0) + calls
  if fields.flight >= fields.window and (fields.step or 0) <= now then
    fields.step = now + (fields.ceiling and PROBE or STEP)
  end
  if rules.requests_per_minute then fields.requests = fields.requests - calls end
  if rules.tokens_per_minute then fields.tokens = fields.tokens - calls * (fields.mean or 1) end
end

-- Tasks of the pool that ended, and calls of its model, of these tasks or (as a fallback) of others: what was not
-- counted when the tasks began is counted now.
local function settle(fields, rules, ended, now)
  if ended.answers > 0 then fields.refused = nil end
  if rules.requests_per_minute then
    refill(fields, 'requests', rules.requests_per_minute, now)
    fields.requests = fields.requests - math.max(0, ended.calls - ended.tasks)
  end
  if rules.tokens_per_minute then
    refill(fields, 'tokens', rules.tokens_per_minute, now)
    fields.tokens = fields.tokens - (ended.tokens - ended.tasks * (fields.mean or 1))
    local answered = math.min(ended.tasks, ended.answers)
    if answered > 0 then
      fields.mean = 0.8 * (fields.mean or ended.tokens / answered) + 0.2 * ended.tokens / answered
    end
  end
end
