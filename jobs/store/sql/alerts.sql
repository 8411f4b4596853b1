-- The statements of the rules (scheduler/alerts/rules.py) first: a row is a problem; `subject` tells a rule's
-- problems apart, the other columns are for the words.

-- name: find_old_queues
-- By when tasks were announced, for which there is an index: what Redis had lost counts from when it was found. Not all
-- are counted: this is asked every few seconds, also while a million wait.
SELECT queue AS subject, CASE WHEN found > 10000 THEN 'more than 10,000' ELSE found::text END AS waiting,
       round(extract(epoch FROM now() - oldest.ready_at))::bigint AS age
FROM unnest('{high, default, low}'::text[]) AS queue, LATERAL (
    SELECT ready_at FROM tasks
    WHERE tasks.queue = queue.queue AND status IN ('PENDING', 'RETRYING')
      AND announced_at < now() - %(queue_age)s * interval '1 second'
    ORDER BY announced_at LIMIT 1) AS oldest, LATERAL (
    SELECT count(*) AS found FROM (
        SELECT FROM tasks
        WHERE tasks.queue = queue.queue AND status IN ('PENDING', 'RETRYING')
          AND announced_at < now() - %(queue_age)s * interval '1 second'
        ORDER BY announced_at LIMIT 10001) AS first) AS counted

-- name: find_overdue_schedules
SELECT '' AS subject, count(*) AS count, left(string_agg(name, ', ' ORDER BY next_slot), 300) AS names,
       round(extract(epoch FROM now() - min(next_slot)))::bigint AS age
FROM schedules WHERE is_active AND next_slot < now() - interval '1 minute'
HAVING count(*) > 0

-- name: find_failed_backup
-- While the newest one that has ended is a failure.
SELECT '' AS subject, id, reason FROM (
    SELECT newest.* FROM unnest('{COMPLETED, FAILED, CANCELLED}'::text[]) AS final (status), generate_series(1, 10) AS p,
    LATERAL (SELECT id, status, left(error ->> 'message', 300) AS reason FROM tasks
             WHERE status = final.status AND task_type = 'database_backup' AND priority = p
             ORDER BY id DESC LIMIT 1) AS newest
    ORDER BY id DESC LIMIT 1) AS newest
WHERE status = 'FAILED'

-- name: find_failed_tasks
SELECT '' AS subject, sum(count) AS count, max(newest) AS newest,
       left(string_agg(count || ' ' || task_type || ' (' || code || ')', ', ' ORDER BY count DESC), 500) AS kinds
FROM (SELECT task_type, coalesce(error ->> 'code', 'unknown') AS code, count(*) AS count, max(id) AS newest FROM tasks
      WHERE status = 'FAILED' AND completed_at > %(since)s AND completed_at <= %(until)s
        AND task_type <> 'database_backup'
      GROUP BY 1, 2) AS kind
HAVING sum(count) > 0

-- name: find_lost_workers
SELECT '' AS subject, count(*) AS count, left(string_agg(kind || ' ' || name, ', ' ORDER BY name), 500) AS names
FROM workers WHERE is_lost AND stopped_at > %(since)s AND stopped_at <= %(until)s
HAVING count(*) > 0

-- name: find_missed_slots
SELECT '' AS subject, count(*) AS count, left(string_agg(DISTINCT schedule_name, ', '), 500) AS names,
       min(scheduled_for) AS earliest
FROM executions WHERE reason = 'misfire_policy' AND created_at > %(since)s AND created_at <= %(until)s
HAVING count(*) > 0

-- name: begin_look
-- Whether this process may look now: one at a time; and until when everything that happened has been committed.
SELECT pg_try_advisory_xact_lock(hashtext('pressroom alerts')) AS is_mine, now() - interval '5 seconds' AS until,
       now() - interval '1 hour' AS earliest

-- name: last_noted
SELECT DISTINCT ON (rule) rule, seen_at, opened_at > now() - %(pause)s * interval '1 second' AS is_fresh
FROM alerts WHERE status = 'NOTED' ORDER BY rule, id DESC

-- name: note_alert
INSERT INTO alerts (rule, subject, level, title, message, status, closed_at, seen_at, next_at)
VALUES (%(rule)s, %(subject)s, %(level)s, %(title)s, %(message)s, 'NOTED', now(), %(until)s,
        CASE WHEN %(tell)s THEN now() END)

-- name: open_alert
-- Or have seen it again, perhaps in other words. One that began before (seconds ago) may have been told already.
INSERT INTO alerts AS a (rule, subject, level, title, message, status, opened_at, told_status, told_at, next_at)
VALUES (%(rule)s, %(subject)s, %(level)s, %(title)s, %(message)s, 'OPEN', now() - %(ago)s * interval '1 second',
        CASE WHEN %(told)s THEN 'OPEN' END, CASE WHEN %(told)s THEN now() END,
        CASE WHEN %(tell)s THEN now() END)
ON CONFLICT (rule, subject) WHERE status = 'OPEN' DO UPDATE
SET title = excluded.title, message = excluded.message, seen_at = now(),
    told_status = coalesce(excluded.told_status, a.told_status), told_at = coalesce(excluded.told_at, a.told_at)

-- name: resolve_alerts
-- Problems that have not been there for a while. Who was never told of one is not told of its end.
UPDATE alerts
SET status = 'RESOLVED', closed_at = now(), failures = 0,
    next_at = CASE WHEN %(tell)s AND told_status IS NOT NULL THEN now() END
WHERE status = 'OPEN' AND seen_at < now() - %(calm)s * interval '1 second'
RETURNING rule, subject

-- name: claim_alert
-- One to be told now; should this process die over it, another tells it after the lease. What nobody could be told
-- for a day is no news.
UPDATE alerts SET next_at = now() + %(lease)s * interval '1 second'
WHERE id = (SELECT id FROM alerts WHERE next_at <= now() AND seen_at > now() - interval '1 day'
            ORDER BY next_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING *

-- name: told_alert
-- It may have been resolved while it was told; else a lasting problem is told again some time.
UPDATE alerts
SET told_status = %(status)s, told_at = now(), failures = 0,
    next_at = CASE WHEN status <> %(status)s THEN now()
                   WHEN status = 'OPEN' THEN now() + %(repeat)s * interval '1 second' END
WHERE id = %(id)s

-- name: postpone_alert
UPDATE alerts
SET failures = failures + 1, next_at = now() + least(300, 5 * 2 ^ least(failures, 10)) * interval '1 second'
WHERE id = %(id)s
