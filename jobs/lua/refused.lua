-- ARGV: pool, worker, its calls in flight (the refused one not counted), seconds it was asked to wait (-1: not said).
-- The endpoint refused a call: nobody asks it before that time, and then no more at once than were not refused.
local pool, worker, count, wait = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local now, fields = seconds(), read_limit(pool)
report_flight(pool, fields, worker, count, now)
fields.refused = (fields.refused or 0) + 1
if wait < 0 then wait = math.min(60, 2 ^ math.min(fields.refused - 1, 6)) end
local is_new = (fields['until'] or 0) <= now
fields['until'] = math.max(fields['until'] or 0, now + wait)
-- Where nothing else was in flight, it was not the number of calls.
if fields.flight > 0 then
  fields.window = math.min(fields.window or FIRST_WINDOW, fields.flight)
  if is_new and fields.pause then
    fields.pause = math.min(LONGEST_PAUSE, 2 * fields.pause)
  elseif fields.window < NARROW then
    fields.pause = math.min(fields.pause or SHORT_PAUSE, SHORT_PAUSE)
  else
    fields.pause = fields.pause or math.max(FIRST_PAUSE, math.min(MOST_FIRST_PAUSE, COST * wait))
  end
  fields.ceiling = fields.window + 1
  fields.step = fields['until'] + fields.pause
end
write_limit(pool, fields)
return tostring(wait)
