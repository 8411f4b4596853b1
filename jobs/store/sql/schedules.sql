-- name: insert_schedule
INSERT INTO schedules (name, description, task_type, cron_expression, interval, interval_unit, timezone, params,
                       is_active, misfire_policy, overlap_policy, starts_at, ends_at, anchor, next_slot, builtin)
VALUES (%(name)s, %(description)s, %(task_type)s, %(cron_expression)s, %(interval)s, %(interval_unit)s,
        %(timezone)s, %(params)s, %(is_active)s, %(misfire_policy)s, %(overlap_policy)s, %(starts_at)s, %(ends_at)s,
        %(anchor)s, %(next_slot)s, %(builtin)s)
ON CONFLICT (builtin) DO NOTHING RETURNING *

-- name: builtin_schedules
SELECT builtin FROM schedules WHERE builtin IS NOT NULL

-- name: get_schedule
SELECT * FROM schedules WHERE id = %(id)s

-- name: lock_schedule
SELECT * FROM schedules WHERE id = %(id)s FOR UPDATE

-- name: update_schedule
UPDATE schedules
SET name = %(name)s, description = %(description)s, task_type = %(task_type)s,
    cron_expression = %(cron_expression)s, interval = %(interval)s, interval_unit = %(interval_unit)s,
    timezone = %(timezone)s, params = %(params)s, is_active = %(is_active)s, misfire_policy = %(misfire_policy)s,
    overlap_policy = %(overlap_policy)s, starts_at = %(starts_at)s, ends_at = %(ends_at)s, anchor = %(anchor)s,
    next_slot = %(next_slot)s, updated_at = now()
WHERE id = %(id)s RETURNING *

-- name: delete_schedule
DELETE FROM schedules WHERE id = %(id)s AND builtin IS NULL RETURNING id

-- name: due_schedules
-- Those with a slot that has passed (or one of them), each with whether a firing of it still works. A schedule
-- that another process is looking at is left to it.
SELECT s.*, now() AS now,
       EXISTS (SELECT FROM executions WHERE schedule_id = s.id AND status = 'PENDING')
       OR EXISTS (SELECT FROM tasks WHERE schedule_id = s.id
                  AND status IN ('BLOCKED', 'PENDING', 'PROCESSING', 'RETRYING')) AS is_working
FROM schedules AS s
WHERE next_slot <= now() - %(late)s * interval '1 second' AND (%(id)s::bigint IS NULL OR id = %(id)s)
ORDER BY next_slot LIMIT %(limit)s FOR UPDATE OF s SKIP LOCKED

-- name: has_firings
-- Whether a slot has passed, or an execution waits: the one question that is asked every second.
SELECT EXISTS (SELECT FROM schedules WHERE next_slot <= now() - %(late)s * interval '1 second')
       OR EXISTS (SELECT FROM executions WHERE status = 'PENDING') AS answer

-- name: insert_executions
-- A slot has one execution, whoever notes it first.
INSERT INTO executions (schedule_id, schedule_name, task_type, params, timezone, scheduled_for, trigger, status,
                        reason, detail, completed_at)
SELECT schedule_id, schedule_name, task_type, params, timezone, scheduled_for, trigger, status, reason, detail,
       CASE WHEN status = 'SKIPPED' THEN now() END
FROM jsonb_to_recordset(%(documents)s) AS doc (
    schedule_id bigint, schedule_name text, task_type text, params jsonb, timezone text, scheduled_for timestamptz,
    trigger text, status text, reason text, detail text)
ORDER BY scheduled_for
ON CONFLICT (schedule_id, scheduled_for) WHERE trigger = 'schedule' DO NOTHING
RETURNING *

-- name: advance_schedules
UPDATE schedules AS s SET next_slot = doc.next_slot, last_run_at = coalesce(doc.last_run_at, s.last_run_at)
FROM jsonb_to_recordset(%(documents)s) AS doc (id bigint, next_slot timestamptz, last_run_at timestamptz)
WHERE s.id = doc.id

-- name: ready_executions
-- What is to be fired now: in the order of the slots, one at a time where overlaps are to be queued.
SELECT e.id FROM executions AS e LEFT JOIN schedules AS s ON s.id = e.schedule_id
WHERE e.status = 'PENDING' AND NOT (
    e.trigger = 'schedule' AND s.overlap_policy = 'queue' AND (
        EXISTS (SELECT FROM executions AS earlier
                WHERE earlier.schedule_id = e.schedule_id AND earlier.status = 'PENDING' AND earlier.id < e.id)
        OR EXISTS (SELECT FROM tasks WHERE schedule_id = e.schedule_id
                   AND status IN ('BLOCKED', 'PENDING', 'PROCESSING', 'RETRYING'))))
ORDER BY e.id LIMIT %(limit)s

-- name: take_executions
-- Those that no other process is at.
SELECT *, clock_timestamp() AS began FROM executions WHERE id = ANY (%(ids)s) AND status = 'PENDING'
ORDER BY id FOR UPDATE SKIP LOCKED

-- name: finish_execution
UPDATE executions
SET status = %(status)s, started_at = %(started_at)s, completed_at = clock_timestamp(), result = %(result)s,
    error = %(error)s
WHERE id = %(id)s

-- name: ran_by_hand
UPDATE schedules SET last_run_at = now() WHERE id = %(id)s

-- name: get_execution
SELECT * FROM executions WHERE id = %(id)s

-- name: clock_entries
-- What the clock should carry, as two arrays: of thousands of rows, that is read fastest.
SELECT coalesce(array_agg(id), '{}') AS ids,
       coalesce(array_agg(extract(epoch FROM next_slot)::float8), '{}') AS times
FROM schedules WHERE next_slot IS NOT NULL

-- name: next_firings
SELECT id, name, next_slot FROM schedules
WHERE is_active AND next_slot IS NOT NULL ORDER BY next_slot LIMIT %(limit)s

-- name: clock_lag
-- How long the most overdue slot has been waiting, in seconds.
SELECT coalesce(extract(epoch FROM now() - min(next_slot)), 0)::float8 AS lag FROM schedules WHERE next_slot <= now()

-- name: executions_by_day
-- What became of slots and firings by hand, by day in a zone; of one schedule, or of all (0). One of the two halves is
-- not begun: a condition that has both in it could use no schedule's index, whichever is asked for.
SELECT (scheduled_for AT TIME ZONE %(zone)s)::date AS day, status, reason, count(*) AS firings
FROM (
    SELECT scheduled_for, status, reason FROM executions
    WHERE schedule_id = %(schedule_id)s AND scheduled_for >= %(since)s AND scheduled_for < %(until)s
    UNION ALL
    SELECT scheduled_for, status, reason FROM executions
    WHERE %(schedule_id)s::bigint = 0 AND scheduled_for >= %(since)s AND scheduled_for < %(until)s
) AS fired
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
