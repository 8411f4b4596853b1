-- name: give_up_workers
UPDATE workers SET stopped_at = now(), running = 0, is_lost = true WHERE id = ANY (%(ids)s) AND stopped_at IS NULL
RETURNING kind, name

-- name: recover_lost
-- PROCESSING tasks of workers that have stopped: cancelled if that was asked for, failed when that happened as often
-- as they may be tried (then these were its attempts), else waiting again, with no attempt counted. A suspect that waited for its turn, as
-- jobs/quarantine.py has it, lost nothing.
WITH lost AS (
    SELECT t.id, w.name AS worker, times,
           CASE WHEN cancel_requested_at IS NOT NULL THEN 'CANCELLED'
                WHEN times > max_retries THEN 'FAILED' ELSE 'PENDING' END AS verdict
    FROM tasks AS t
    LEFT JOIN workers AS w ON w.id = t.worker_id
    CROSS JOIN LATERAL (SELECT t.lost + CASE WHEN t.lost >= least(2, greatest(1, t.max_retries))
                                              AND w.suspect IS DISTINCT FROM t.id THEN 0 ELSE 1 END AS times) AS loss
    WHERE status = 'PROCESSING' AND (w.id IS NULL OR w.stopped_at IS NOT NULL)
    ORDER BY t.id FOR UPDATE OF t
), moved AS (
    UPDATE tasks AS t
    SET status = verdict, lost = times,
        attempt = CASE verdict WHEN 'PENDING' THEN attempt - 1
                               WHEN 'FAILED' THEN least(max_retries + 1, attempt + times - 1) ELSE attempt END,
        error = CASE WHEN verdict = 'FAILED' THEN %(error)s::jsonb END,
        completed_at = CASE WHEN verdict <> 'PENDING' THEN now() END,
        announced_at = now(), ready_at = now(), worker_id = NULL, updated_at = now()
    FROM lost WHERE t.id = lost.id
    RETURNING t.id, t.status, 'PROCESSING' AS from_status, t.task_type, t.attempt, t.queue, t.pool, t.owner, t.batch_id,
              t.callback_url IS NOT NULL AS has_callback, t.has_children, lost.worker
), logged AS (
    INSERT INTO task_events (task_id, from_status, to_status, attempt, worker, detail)
    SELECT id, 'PROCESSING', status, attempt, worker,
           jsonb_strip_nulls(jsonb_build_object(
               'reason', 'worker_lost', 'error', CASE WHEN status = 'FAILED' THEN %(error)s::jsonb END))
    FROM moved
)
SELECT * FROM moved ORDER BY id

-- name: forget_workers
DELETE FROM workers WHERE stopped_at < now() - interval '1 day'

-- name: moment
-- What time it is here.
SELECT now() AS now

-- name: take_due
-- Tasks whose time had come by a moment: marked as announced, to be put on their queues now.
UPDATE tasks SET announced_at = now()
WHERE id IN (SELECT id FROM tasks
             WHERE status IN ('PENDING', 'RETRYING') AND announced_at IS NULL AND due_at <= %(moment)s
             ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING id, queue, pool, owner, status

-- name: upcoming
-- Tasks that become due within the horizon, for the clock.
SELECT id, queue, due_at FROM tasks
WHERE status IN ('PENDING', 'RETRYING') AND announced_at IS NULL
  AND due_at > now() AND due_at <= now() + %(horizon)s * interval '1 second'
ORDER BY due_at LIMIT %(limit)s

-- name: announced
-- A page of a queue's tasks that should be waiting in Redis, by the pools where they do; those announced just now may
-- be on their way. Arrays, and where the page ends on every row: thousands of rows would cost more to read than to
-- find. The queue is a subquery's, so that the planner does not know that it is not '': see migration 0013.
WITH page AS MATERIALIZED (
    SELECT id, pool, announced_at FROM tasks
    WHERE queue = (SELECT %(queue)s::text) AND status IN ('PENDING', 'RETRYING')
      AND announced_at < now() - %(grace)s * interval '1 second'
      AND (announced_at, id) > (%(after)s, %(after_id)s)
    ORDER BY announced_at, id LIMIT %(limit)s
), last AS MATERIALIZED (
    SELECT announced_at, id FROM page ORDER BY announced_at DESC, id DESC LIMIT 1
)
SELECT %(queue)s::text AS queue, pool, array_agg(page.id) AS ids, last.announced_at AS last_at, last.id AS last_id
FROM page, last
GROUP BY pool, last.announced_at, last.id

-- name: announce_again
UPDATE tasks SET announced_at = now() WHERE id IN (
    SELECT id FROM tasks WHERE id = ANY (%(ids)s) AND status IN ('PENDING', 'RETRYING') AND announced_at IS NOT NULL
    ORDER BY id FOR UPDATE)
RETURNING id, queue, pool, owner, status
