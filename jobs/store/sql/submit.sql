-- name: insert_batch
INSERT INTO batches (total, callback_url) VALUES (%(total)s, %(callback_url)s) RETURNING *

-- name: shrink_batch
-- Tasks that existed already, by their unique_key, are not a part of it.
UPDATE batches SET total = %(total)s WHERE id = %(id)s RETURNING *

-- name: insert_tasks
-- Goes on with one of the two below. One row a document; ids are given in the order of the documents. Tasks that depend on others begin BLOCKED,
-- those with a result from before (cached_from) are COMPLETED at once.
WITH incoming AS (
    SELECT row_number() OVER () AS position, doc.*
    FROM jsonb_to_recordset(%(documents)s) AS doc (
        task_type text, prompt text, model text, input jsonb, metadata jsonb, priority smallint, queue text, pool text,
        owner text, max_retries integer, timeout_seconds integer, retry jsonb, run_at timestamptz,
        delay_seconds float8, depends_on bigint[], callback_url text, stream boolean, profile boolean,
        input_hash bigint, cached_from bigint, account_id bigint, schedule_id bigint, execution_id bigint,
        parent_task_id bigint, unique_key text, request_id text)
), created AS (
    INSERT INTO tasks (task_type, prompt, model, input, metadata, status, priority, queue, pool, owner, max_retries,
                       timeout_seconds, retry, run_at, due_at, ready_at, announced_at, depends_on, parents_left,
                       callback_url, stream, profile, input_hash, result, progress, completed_at, batch_id,
                       request_id, account_id, schedule_id, execution_id, parent_task_id, unique_key)
    SELECT i.task_type, i.prompt, i.model, coalesce(i.input, '{}'), coalesce(i.metadata, '{}'), began.status, i.priority,
           i.queue, i.pool, coalesce(i.owner, ''),
           i.max_retries, i.timeout_seconds, i.retry, at,
           CASE WHEN began.status = 'PENDING' AND at > now() THEN at END, greatest(at, now()),
           CASE WHEN began.status = 'PENDING' AND (at IS NULL OR at <= now()) THEN now() END,
           coalesce(i.depends_on, '{}'), coalesce(cardinality(i.depends_on), 0), i.callback_url,
           coalesce(i.stream, false), coalesce(i.profile, false), i.input_hash,
           source.result, CASE WHEN began.status = 'COMPLETED' THEN 100 ELSE 0 END,
           CASE WHEN began.status = 'COMPLETED' THEN now() END, %(batch_id)s, i.request_id,
           i.account_id, i.schedule_id, i.execution_id, i.parent_task_id, i.unique_key
    FROM incoming AS i
    -- LIMIT keeps this apart: joined, all of a table that looks small would be read for each few new tasks.
    LEFT JOIN LATERAL (SELECT id, result FROM tasks WHERE id = i.cached_from LIMIT 1) AS source ON true,
    LATERAL (SELECT coalesce(i.run_at, now() + i.delay_seconds * interval '1 second') AS at,
                    CASE WHEN i.depends_on <> '{}' THEN 'BLOCKED' WHEN source.id IS NOT NULL THEN 'COMPLETED'
                         ELSE 'PENDING' END AS status) AS began
    ORDER BY position
    ON CONFLICT (unique_key)
        WHERE unique_key IS NOT NULL AND status IN ('BLOCKED', 'PENDING', 'PROCESSING', 'RETRYING') DO NOTHING
    RETURNING *
), logged AS (
    INSERT INTO task_events (task_id, to_status, attempt, detail)
    SELECT id, status, attempt, CASE WHEN status = 'COMPLETED' THEN '{"reason": "cached"}'::jsonb END FROM created
)

-- name: inserted_tasks
SELECT *, NULL AS from_status, callback_url IS NOT NULL AS has_callback FROM created ORDER BY id

-- name: inserted_tasks_in_brief
-- What announcing and the hooks want to know: of many tasks, the rest takes longer to fetch than they take to insert.
SELECT id, status, task_type, queue, pool, owner, attempt, announced_at, due_at, depends_on, batch_id, has_children,
       NULL AS from_status, callback_url IS NOT NULL AS has_callback
FROM created ORDER BY id

-- name: link_parents
-- Puts the children of these ids on their parents' books, also of parents that have ended: what follows is the
-- same then, a moment later. Returns the parents found.
WITH links AS (
    INSERT INTO task_parents (parent_id, child_id)
    SELECT parent_id, id FROM tasks, unnest(depends_on) AS parent_id WHERE id = ANY (%(ids)s)
    RETURNING parent_id
), locked AS (
    SELECT id FROM tasks WHERE id IN (SELECT parent_id FROM links) ORDER BY id FOR NO KEY UPDATE
), told AS (
    -- Whatever this statement saw before it waited for the lock.
    UPDATE tasks AS t SET has_children = true FROM locked WHERE t.id = locked.id
)
SELECT id FROM locked

-- name: unfinished_with_key
SELECT * FROM tasks
WHERE unique_key = %(unique_key)s AND status IN ('BLOCKED', 'PENDING', 'PROCESSING', 'RETRYING')

-- name: find_cached
-- For each document the newest equal task that completed within its cache_ttl; none where an unfinished task has its
-- unique_key, which is what is asked for then.
SELECT position, found.id
FROM jsonb_to_recordset(%(documents)s) AS doc (
    position integer, task_type text, prompt text, model text, input jsonb, input_hash bigint, cache_ttl float8,
    unique_key text),
LATERAL (SELECT id FROM tasks AS t
         WHERE t.input_hash = doc.input_hash AND t.status = 'COMPLETED'
           AND t.completed_at >= now() - cache_ttl * interval '1 second'
           AND t.task_type = doc.task_type AND t.model IS NOT DISTINCT FROM doc.model
           AND t.prompt IS NOT DISTINCT FROM doc.prompt AND t.input = coalesce(doc.input, '{}') AND t.depends_on = '{}'
         ORDER BY t.completed_at DESC LIMIT 1) AS found
WHERE NOT EXISTS (SELECT FROM tasks AS u
                  WHERE u.unique_key = doc.unique_key AND u.status IN ('BLOCKED', 'PENDING', 'PROCESSING', 'RETRYING'))

-- name: claim_idempotency_key
-- Waits for a simultaneous request with the same key to commit or roll back.
INSERT INTO idempotency_keys (key, request_hash) VALUES (%(key)s, %(request_hash)s)
ON CONFLICT (key) DO NOTHING RETURNING key

-- name: get_idempotency_key
SELECT request_hash, task_id, batch_id FROM idempotency_keys WHERE key = %(key)s

-- name: answer_idempotency_key
UPDATE idempotency_keys SET task_id = %(task_id)s, batch_id = %(batch_id)s WHERE key = %(key)s

-- name: forget_idempotency_keys
DELETE FROM idempotency_keys WHERE created_at < now() - %(keep_hours)s * interval '1 hour'

-- name: count_waiting
-- How many tasks wait, up to a limit.
SELECT count(*) AS tasks
FROM (SELECT FROM tasks WHERE status IN ('BLOCKED', 'PENDING', 'RETRYING') LIMIT %(limit)s) AS waiting
