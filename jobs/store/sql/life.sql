-- Moves between states. Every statement guards with the states that lifecycle.py allows, locks rows in
-- the order of their ids (so that two of them never wait for each other), and writes the event rows.

-- name: claim_tasks
-- PENDING | RETRYING -> PROCESSING, for those of the ids that may start now, unless the worker was given up
-- for dead. An attempt counts from here.
WITH chosen AS (
    SELECT id, status FROM tasks
    WHERE id = ANY (%(ids)s) AND status = ANY (%(sources)s) AND (due_at IS NULL OR due_at <= now())
      AND EXISTS (SELECT FROM workers WHERE id = %(worker_id)s AND stopped_at IS NULL)
    ORDER BY id FOR UPDATE
), claimed AS (
    UPDATE tasks AS t
    SET status = 'PROCESSING', attempt = attempt + 1, fence = fence + 1, worker_id = %(worker_id)s, progress = 0,
        due_at = NULL, started_at = now(), updated_at = now()
    FROM chosen WHERE t.id = chosen.id
    RETURNING t.id, t.task_type, t.prompt, t.model, t.input, t.queue, t.attempt, t.fence, t.max_retries,
              t.timeout_seconds, t.retry, t.request_id, chosen.status AS from_status
), logged AS (
    INSERT INTO task_events (task_id, from_status, to_status, attempt, worker)
    SELECT id, from_status, 'PROCESSING', attempt, %(worker)s FROM claimed
)
SELECT * FROM claimed

-- name: record_outcomes
-- PROCESSING -> what each attempt came to, if it still owns its task (the fence tells). An attempt that
-- is handed back (PENDING) is not counted. A task that somebody asked to cancel does not wait again: it is
-- cancelled, unless it was completed first. Returns the tasks recorded, with the moment retries are due.
WITH outcome AS (
    SELECT * FROM unnest(%(ids)s::bigint[], %(fences)s::int[], %(statuses)s::text[], %(results)s::jsonb[],
                         %(errors)s::jsonb[], %(usages)s::jsonb[], %(delays)s::float8[])
        AS o (id, fence, status, result, error, usage, delay)
), owned AS (
    SELECT t.id, o.result, o.error, o.usage, o.delay,
           CASE WHEN t.cancel_requested_at IS NOT NULL AND o.status <> 'COMPLETED' THEN 'CANCELLED' ELSE o.status END
               AS status
    FROM tasks AS t JOIN outcome AS o ON o.id = t.id AND o.fence = t.fence
    WHERE t.status = 'PROCESSING' AND o.status = ANY (%(targets)s)
    ORDER BY t.id FOR UPDATE OF t
), recorded AS (
    UPDATE tasks AS t
    SET status = o.status, result = o.result, error = o.error, usage = coalesce(o.usage, t.usage),
        progress = CASE WHEN o.status = 'COMPLETED' THEN 100 ELSE t.progress END,
        attempt = CASE WHEN o.status = 'PENDING' THEN t.attempt - 1 ELSE t.attempt END,
        worker_id = NULL,
        due_at = CASE WHEN o.status = 'RETRYING' THEN now() + o.delay * interval '1 second' END,
        announced_at = CASE WHEN o.status = 'PENDING' THEN t.announced_at END,
        completed_at = CASE WHEN o.status IN ('COMPLETED', 'FAILED', 'CANCELLED') THEN now() END,
        updated_at = now()
    FROM owned AS o WHERE t.id = o.id
    RETURNING t.id, t.status, t.attempt, t.queue, t.due_at, o.error, o.delay
), logged AS (
    INSERT INTO task_events (task_id, from_status, to_status, attempt, worker, detail)
    SELECT id, 'PROCESSING', status, attempt, %(worker)s,
           CASE WHEN status = 'PENDING' THEN jsonb_build_object('reason', 'handed back')
                WHEN error IS NOT NULL THEN jsonb_strip_nulls(jsonb_build_object('error', error, 'delay', delay))
           END
    FROM recorded
)
SELECT id, status, queue, due_at FROM recorded

-- name: cancel_tasks
-- Waiting tasks are cancelled at once; for running ones the wish is noted and their worker is told.
-- Returns every task touched, with the name of the worker to tell.
WITH chosen AS (
    SELECT id, status FROM tasks
    WHERE (id = ANY (%(ids)s) OR batch_id = %(batch_id)s) AND status = ANY (%(sources)s)
    ORDER BY id FOR UPDATE
), touched AS (
    UPDATE tasks AS t
    SET status = CASE WHEN chosen.status = 'PROCESSING' THEN t.status ELSE 'CANCELLED' END,
        completed_at = CASE WHEN chosen.status = 'PROCESSING' THEN NULL ELSE now() END,
        cancel_requested_at = coalesce(t.cancel_requested_at, now()),
        due_at = NULL, updated_at = now()
    FROM chosen WHERE t.id = chosen.id
    RETURNING t.id, t.status, t.attempt, t.worker_id, chosen.status AS from_status
), logged AS (
    INSERT INTO task_events (task_id, from_status, to_status, attempt)
    SELECT id, from_status, status, attempt FROM touched WHERE status = 'CANCELLED'
)
SELECT touched.id, touched.status, workers.name AS worker
FROM touched LEFT JOIN workers ON workers.id = touched.worker_id

-- name: cancel_batch
UPDATE batches SET cancelled_at = coalesce(cancelled_at, now()) WHERE id = %(id)s

-- name: retry_task
-- FAILED | CANCELLED -> PENDING by the caller's wish, with all its attempts ahead of it again; not before the
-- time it was submitted for.
WITH chosen AS (
    SELECT id, status FROM tasks WHERE id = %(id)s AND status = ANY (%(sources)s) FOR UPDATE
), revived AS (
    UPDATE tasks AS t
    SET status = 'PENDING', attempt = 0, progress = 0, result = NULL, error = NULL, usage = NULL,
        due_at = CASE WHEN run_at > now() THEN run_at END,
        announced_at = CASE WHEN run_at > now() THEN NULL ELSE now() END,
        cancel_requested_at = NULL, started_at = NULL, completed_at = NULL, updated_at = now()
    FROM chosen WHERE t.id = chosen.id
    RETURNING t.*, chosen.status AS from_status
), logged AS (
    INSERT INTO task_events (task_id, from_status, to_status, attempt, detail)
    SELECT id, from_status, 'PENDING', 0, jsonb_build_object('reason', 'retried on request') FROM revived
)
SELECT * FROM revived
