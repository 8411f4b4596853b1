-- Moves between states. Every statement guards with the states that lifecycle.py allows, locks rows in
-- the order of their ids (so that two of them never wait for each other), and writes the event rows. Those that
-- move tasks on return them as jobs/hooks.py wants to see them. Where ids are given, `status || ''` keeps
-- the planner from the indexes that begin with the state: what left it lies there until vacuumed.

-- name: claim_tasks
-- PENDING | RETRYING -> PROCESSING, for those of the ids that may start now, unless the worker was given up
-- for dead. An attempt counts from here.
WITH chosen AS (
    SELECT id, status FROM tasks
    WHERE id = ANY (%(ids)s) AND status || '' = ANY (%(sources)s) AND (due_at IS NULL OR due_at <= now())
      AND EXISTS (SELECT FROM workers WHERE id = %(worker_id)s AND stopped_at IS NULL)
    ORDER BY id FOR UPDATE
), claimed AS (
    UPDATE tasks AS t
    SET status = 'PROCESSING', attempt = attempt + 1, fence = fence + 1, worker_id = %(worker_id)s, progress = 0,
        progress_message = NULL, due_at = NULL, started_at = now(), updated_at = now(),
        waited_seconds = greatest(0, extract(epoch FROM now() - ready_at)), run_seconds = NULL
    FROM chosen WHERE t.id = chosen.id
    RETURNING t.id, t.status, t.task_type, t.prompt, t.model, t.input, t.metadata, t.queue, t.pool, t.attempt, t.fence,
              t.max_retries, t.timeout_seconds, t.retry, t.request_id, t.account_id, t.batch_id, t.depends_on,
              t.stream, t.profile, t.usage, t.waited_seconds,
              extract(epoch FROM now() - t.limited_since)::float8 AS limited_for, chosen.status AS from_status,
              t.lost >= least(2, greatest(1, t.max_retries)) AS is_suspect
), logged AS (
    INSERT INTO task_events (task_id, from_status, to_status, attempt, worker, detail)
    SELECT id, from_status, 'PROCESSING', attempt, %(worker)s,
           jsonb_build_object('waited_seconds', round(waited_seconds::numeric, 3))
    FROM claimed
)
SELECT * FROM claimed

-- name: record_outcomes
-- PROCESSING -> what each attempt came to, if it still owns its task (the fence tells). An attempt that
-- is handed back (PENDING) is not counted, nor is one that only found its provider busy (free), or that it was not its
-- turn (free, without an error). A task that somebody asked to cancel does not wait again: it is cancelled, unless it
-- was completed first.
WITH outcome AS (
    SELECT * FROM jsonb_to_recordset(%(outcomes)s::jsonb)
        AS o (id bigint, fence int, status text, result jsonb, error jsonb, usage jsonb, delay float8, free bool,
              measures jsonb)
), owned AS (
    SELECT t.id, o.result, o.error, o.usage, o.delay, o.free, o.measures,
           CASE WHEN t.cancel_requested_at IS NOT NULL AND o.status <> 'COMPLETED' THEN 'CANCELLED' ELSE o.status END
               AS status
    FROM tasks AS t JOIN outcome AS o ON o.id = t.id AND o.fence = t.fence
    WHERE t.status || '' = 'PROCESSING' AND o.status = ANY (%(targets)s)
    ORDER BY t.id FOR UPDATE OF t
), recorded AS (
    UPDATE tasks AS t
    SET status = o.status, result = o.result, error = o.error, usage = coalesce(o.usage, t.usage),
        progress = CASE WHEN o.status = 'COMPLETED' THEN 100 ELSE t.progress END,
        attempt = CASE WHEN o.free THEN t.attempt - 1 ELSE t.attempt END,
        limited_since = CASE WHEN o.status = 'RETRYING' AND o.free
                             THEN coalesce(t.limited_since, CASE WHEN o.error IS NOT NULL THEN now() END) END,
        worker_id = NULL,
        due_at = CASE WHEN o.status = 'RETRYING' THEN now() + o.delay * interval '1 second' END,
        ready_at = now() + coalesce(o.delay, 0) * interval '1 second',
        announced_at = CASE WHEN o.status = 'PENDING' THEN coalesce(t.announced_at, now()) END,
        completed_at = CASE WHEN o.status IN ('COMPLETED', 'FAILED', 'CANCELLED') THEN now() END,
        run_seconds = extract(epoch FROM now() - t.started_at), updated_at = now()
    FROM owned AS o WHERE t.id = o.id
    RETURNING t.id, t.status, 'PROCESSING' AS from_status, t.task_type, t.attempt, t.queue, t.pool, t.owner, t.due_at,
              t.batch_id, t.callback_url IS NOT NULL AS has_callback, t.has_children, t.run_seconds,
              o.error, o.delay, o.measures
), logged AS (
    INSERT INTO task_events (task_id, from_status, to_status, attempt, worker, detail)
    SELECT id, 'PROCESSING', status, attempt, %(worker)s, jsonb_strip_nulls(jsonb_build_object(
               'reason', CASE WHEN status = 'PENDING' THEN 'handed back'
                              WHEN status = 'RETRYING' AND error IS NULL THEN 'waits for its turn' END, 'error', error, 'delay', delay,
               'run_seconds', round(run_seconds::numeric, 3)) || coalesce(measures, '{}'))
    FROM recorded
)
SELECT id, status, from_status, task_type, attempt, queue, pool, owner, due_at, batch_id, has_callback, has_children
FROM recorded

-- name: keep_answers
-- Of attempts that still own their tasks, or were the last to: of these the tokens have been recorded.
INSERT INTO answers (task_id, request, turn, answer, counted)
SELECT id, request, turn, a.answer, status <> 'PROCESSING'
FROM unnest(%(ids)s::bigint[], %(fences)s::int[], %(requests)s::bytea[], %(turns)s::smallint[], %(answers)s::jsonb[])
     AS a (id, fence, request, turn, answer)
JOIN tasks USING (id, fence)
WHERE status IN ('PENDING', 'PROCESSING', 'RETRYING')
ON CONFLICT DO NOTHING

-- name: kept_answers
SELECT request, turn, answer, counted FROM answers WHERE task_id = %(id)s

-- name: count_answers
-- The tokens of these tasks' answers are recorded with them.
UPDATE answers SET counted = true WHERE task_id = ANY (%(ids)s) AND NOT counted

-- name: forget_answers
DELETE FROM answers WHERE task_id = ANY (%(ids)s)

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
    RETURNING t.id, t.status, chosen.status AS from_status, t.task_type, t.attempt, t.queue, t.batch_id,
              t.callback_url IS NOT NULL AS has_callback, t.has_children, t.worker_id
), logged AS (
    INSERT INTO task_events (task_id, from_status, to_status, attempt)
    SELECT id, from_status, status, attempt FROM touched WHERE status = 'CANCELLED'
)
SELECT touched.*, workers.name AS worker
FROM touched LEFT JOIN workers ON workers.id = touched.worker_id

-- name: cancel_batch
UPDATE batches SET cancelled_at = coalesce(cancelled_at, now()) WHERE id = %(id)s

-- name: retry_tasks
-- FAILED | CANCELLED -> PENDING by the caller's wish, with all attempts ahead of them again; not before the time
-- they were submitted for. Those that depend on tasks which have not completed are BLOCKED until these have.
-- Of a batch, only what failed. Parents are locked with their children, in one order.
WITH wanted AS (
    SELECT id FROM tasks
    WHERE (id = ANY (%(ids)s) OR (batch_id = %(batch_id)s AND status = 'FAILED')) AND status = ANY (%(sources)s)
), locked AS (
    SELECT id, status FROM tasks
    WHERE id = ANY (ARRAY (SELECT id FROM wanted UNION SELECT parent_id FROM task_parents JOIN wanted ON child_id = id))
    ORDER BY id FOR UPDATE
), chosen AS (
    SELECT locked.* FROM locked JOIN wanted USING (id)
    WHERE status = ANY (%(sources)s) AND (id = ANY (%(ids)s) OR status = 'FAILED')
), links AS (
    -- Also those that have completed, but were not counted yet: they are now.
    UPDATE task_parents AS l SET done = (parent.status = 'COMPLETED')
    FROM chosen, locked AS parent
    WHERE l.child_id = chosen.id AND parent.id = l.parent_id
    RETURNING l.child_id, l.parent_id, l.done
), told AS (
    UPDATE tasks SET has_children = true
    WHERE id IN (SELECT parent_id FROM links WHERE NOT done) AND id NOT IN (SELECT id FROM chosen)
), revived AS (
    UPDATE tasks AS t
    SET status = CASE WHEN l.left_over > 0 THEN 'BLOCKED' ELSE 'PENDING' END, parents_left = l.left_over,
        has_children = t.has_children OR EXISTS (SELECT FROM links WHERE parent_id = t.id AND NOT done),
        attempt = 0, lost = 0, progress = 0, progress_message = NULL, result = NULL, error = NULL, usage = NULL,
        due_at = CASE WHEN run_at > now() THEN run_at END, ready_at = greatest(run_at, now()), limited_since = NULL,
        announced_at = CASE WHEN l.left_over > 0 OR run_at > now() THEN NULL ELSE now() END,
        cancel_requested_at = NULL, started_at = NULL, completed_at = NULL, waited_seconds = NULL, run_seconds = NULL,
        updated_at = now()
    FROM chosen, LATERAL (SELECT count(*) AS left_over FROM links WHERE child_id = chosen.id AND NOT done) AS l
    WHERE t.id = chosen.id
    RETURNING t.*, chosen.status AS from_status
), reopened AS (
    UPDATE batches SET completed_at = NULL, cancelled_at = NULL WHERE id IN (SELECT batch_id FROM revived)
), logged AS (
    INSERT INTO task_events (task_id, from_status, to_status, attempt, detail)
    SELECT id, from_status, status, 0, jsonb_build_object('reason', 'retried on request') FROM revived
)
SELECT *, callback_url IS NOT NULL AS has_callback FROM revived ORDER BY id

-- name: lock_parents
-- Ended tasks that others may wait for. Locked before their children are looked for: who adds one later waits, and
-- says so on the parent again.
SELECT id FROM tasks WHERE has_children AND completed_at IS NOT NULL
ORDER BY completed_at LIMIT 100 FOR NO KEY UPDATE SKIP LOCKED

-- name: release_children
-- BLOCKED -> PENDING for the children of these ended parents, once all of their parents have completed; FAILED when
-- one has not. A limited number at a time; returns those that moved. Two parents that end at the same time both count,
-- as the row of the child is locked in between.
WITH ended AS (
    SELECT id, status FROM tasks WHERE id = ANY (%(parents)s)
), links AS (
    SELECT l.*, ended.status
    FROM ended, LATERAL (SELECT parent_id, child_id FROM task_parents
                         WHERE parent_id = ended.id AND NOT done LIMIT %(limit)s) AS l
    LIMIT %(limit)s
), marked AS (
    UPDATE task_parents AS l SET done = true FROM links
    WHERE l.child_id = ANY (ARRAY (SELECT child_id FROM links))
      AND l.parent_id = links.parent_id AND l.child_id = links.child_id
), finished AS (
    UPDATE tasks AS t SET has_children = false FROM ended
    WHERE t.id = ended.id AND (SELECT count(*) FROM links) < %(limit)s
    RETURNING t.id
), counted AS (
    SELECT child_id, count(*) AS parents, min(parent_id) FILTER (WHERE status <> 'COMPLETED') AS broken
    FROM links GROUP BY child_id
), chosen AS (
    SELECT t.id, parents, broken FROM tasks AS t JOIN counted ON child_id = t.id
    WHERE t.id = ANY (ARRAY (SELECT child_id FROM counted)) AND t.status = 'BLOCKED' ORDER BY t.id FOR UPDATE OF t
), counted_down AS (
    UPDATE tasks AS t
    SET parents_left = greatest(0, parents_left - parents),
        status = CASE WHEN broken IS NOT NULL THEN 'FAILED' WHEN parents_left <= parents THEN 'PENDING' ELSE status END,
        error = CASE WHEN broken IS NOT NULL THEN jsonb_build_object(
            'code', 'dependency_failed', 'retryable', false,
            'message', 'Task ' || broken || ', which it depends on, did not complete.') END,
        completed_at = CASE WHEN broken IS NOT NULL THEN now() END,
        due_at = CASE WHEN broken IS NULL AND run_at > now() THEN run_at END,
        announced_at = CASE WHEN broken IS NULL AND parents_left <= parents AND (run_at IS NULL OR run_at <= now())
                            THEN now() END,
        ready_at = greatest(run_at, now()), updated_at = now()
    FROM chosen WHERE t.id = chosen.id
    RETURNING t.id, t.status, t.task_type, t.attempt, t.queue, t.pool, t.owner, t.due_at, t.announced_at, t.batch_id,
              t.callback_url IS NOT NULL AS has_callback, t.has_children, t.error
), logged AS (
    INSERT INTO task_events (task_id, from_status, to_status, attempt, detail)
    SELECT id, 'BLOCKED', status, attempt, CASE WHEN error IS NOT NULL THEN jsonb_build_object('error', error) END
    FROM counted_down WHERE status <> 'BLOCKED'
)
SELECT *, 'BLOCKED' AS from_status FROM counted_down

-- name: lock_batches
-- Those that are open, of these or of all; before their tasks are looked at.
SELECT id FROM batches WHERE completed_at IS NULL AND (%(ids)s::bigint[] IS NULL OR id = ANY (%(ids)s))
ORDER BY id FOR UPDATE SKIP LOCKED

-- name: close_batches
-- Those of which every task has ended. After the commit of the last one: before it, nobody sees all of them.
UPDATE batches AS b SET completed_at = now()
WHERE completed_at IS NULL AND id = ANY (%(ids)s) AND NOT EXISTS (
    SELECT FROM tasks WHERE batch_id = b.id AND status IN ('BLOCKED', 'PENDING', 'PROCESSING', 'RETRYING'))
RETURNING id, callback_url IS NOT NULL AS has_callback

-- name: note_progress
-- Of attempts that still own their tasks.
UPDATE tasks AS t SET progress = p.percent, progress_message = p.message, updated_at = now()
FROM unnest(%(ids)s::bigint[], %(fences)s::int[], %(percents)s::smallint[], %(messages)s::text[])
    AS p (id, fence, percent, message)
WHERE t.id = p.id AND t.fence = p.fence AND t.status = 'PROCESSING'

-- name: note_late
-- The soft limit of these attempts has passed.
INSERT INTO task_events (task_id, from_status, to_status, attempt, worker, detail)
SELECT id, 'PROCESSING', 'PROCESSING', attempt, %(worker)s, '{"warning": "soft_limit"}'
FROM tasks WHERE id = ANY (%(ids)s) AND status = 'PROCESSING'
RETURNING task_id

-- name: keep_profile
INSERT INTO task_profiles (task_id, attempt, page) VALUES (%(id)s, %(attempt)s, %(page)s)
ON CONFLICT (task_id, attempt) DO UPDATE SET page = excluded.page

-- name: get_profile
SELECT page FROM task_profiles WHERE task_id = %(id)s ORDER BY attempt DESC LIMIT 1
