-- name: recover_lost
-- PROCESSING tasks whose worker no longer beats: cancelled if that was asked for, failed when their
-- attempts are used up, else waiting again.
WITH lost AS (
    SELECT id FROM tasks AS t
    WHERE status = 'PROCESSING' AND NOT EXISTS (
        SELECT FROM workers AS w
        WHERE w.id = t.worker_id AND w.stopped_at IS NULL
          AND w.last_heartbeat >= now() - %(lease)s * interval '1 second')
    ORDER BY id FOR UPDATE
), was AS (
    SELECT t.id, w.name AS worker FROM tasks AS t JOIN lost USING (id) LEFT JOIN workers AS w ON w.id = t.worker_id
), moved AS (
    UPDATE tasks AS t
    SET status = verdict.status,
        error = CASE WHEN verdict.status = 'FAILED' THEN %(error)s::jsonb END,
        completed_at = CASE WHEN verdict.status <> 'PENDING' THEN now() END,
        announced_at = now(), worker_id = NULL, updated_at = now()
    FROM lost JOIN tasks AS o USING (id), LATERAL (
        SELECT CASE WHEN o.cancel_requested_at IS NOT NULL THEN 'CANCELLED'
                    WHEN o.attempt > o.max_retries THEN 'FAILED' ELSE 'PENDING' END AS status) AS verdict
    WHERE t.id = lost.id
    RETURNING t.id, t.status, t.attempt, t.queue
), logged AS (
    INSERT INTO task_events (task_id, from_status, to_status, attempt, worker, detail)
    SELECT id, 'PROCESSING', status, attempt, worker,
           jsonb_build_object('reason', 'worker_lost', 'error', CASE WHEN status = 'FAILED' THEN %(error)s::jsonb END)
    FROM moved JOIN was USING (id)
)
SELECT moved.id, moved.status, moved.queue, was.worker FROM moved JOIN was USING (id) ORDER BY moved.id

-- name: give_up_workers
UPDATE workers SET stopped_at = now(), running = 0
WHERE stopped_at IS NULL AND last_heartbeat < now() - %(lease)s * interval '1 second'
RETURNING kind, name

-- name: forget_workers
DELETE FROM workers WHERE stopped_at < now() - interval '1 day'

-- name: take_due
-- Tasks whose time has come: marked as announced, to be put on their queues now.
UPDATE tasks SET announced_at = now()
WHERE id IN (SELECT id FROM tasks
             WHERE status IN ('PENDING', 'RETRYING') AND announced_at IS NULL AND due_at <= now()
             ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING id, queue

-- name: upcoming
-- Tasks that become due within the horizon, for the clock.
SELECT id, queue, due_at FROM tasks
WHERE status IN ('PENDING', 'RETRYING') AND announced_at IS NULL
  AND due_at > now() AND due_at <= now() + %(horizon)s * interval '1 second'
ORDER BY due_at LIMIT %(limit)s

-- name: waiting_among
SELECT id FROM tasks WHERE id = ANY (%(ids)s) AND status IN ('PENDING', 'RETRYING') AND announced_at IS NOT NULL

-- name: take_unheard
-- Queues are first in, first out: a waiting task announced clearly before the one at the head of its
-- queue (or any, when the queue is empty) is not in Redis any more. Marked anew and returned.
UPDATE tasks SET announced_at = now()
WHERE id IN (
    SELECT id FROM tasks
    WHERE queue = %(queue)s AND status IN ('PENDING', 'RETRYING') AND announced_at IS NOT NULL
      AND announced_at < now() - %(grace)s * interval '1 second'
      AND announced_at < coalesce(
          (SELECT announced_at FROM tasks WHERE id = %(head)s) - %(grace)s * interval '1 second', now())
    ORDER BY announced_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING id, queue
