-- name: queue_callbacks
-- For tasks that ended in this transaction.
INSERT INTO callbacks (type, task_id, callback_url, payload)
SELECT 'task.' || lower(status), id, callback_url, to_jsonb(t) FROM tasks AS t
WHERE id = ANY (%(ids)s) AND callback_url IS NOT NULL ORDER BY id

-- name: queue_batch_callbacks
-- For batches that were closed in this transaction, with what makes their shape.
INSERT INTO callbacks (type, batch_id, callback_url, payload)
SELECT CASE WHEN cancelled_at IS NULL THEN 'batch.completed' ELSE 'batch.cancelled' END, id, callback_url,
       jsonb_build_object('batch', to_jsonb(b), 'states', (
           SELECT coalesce(jsonb_agg(s), '[]') FROM (
               SELECT status, count(*) AS count, max(completed_at) AS last_end FROM tasks
               WHERE batch_id = b.id GROUP BY status) AS s
       ), 'errors', (
           SELECT coalesce(jsonb_agg(e ORDER BY e.task_id), '[]') FROM (
               SELECT id AS task_id, error FROM tasks WHERE batch_id = b.id AND status = 'FAILED'
               ORDER BY id LIMIT 100) AS e))
FROM batches AS b WHERE id = ANY (%(ids)s) AND callback_url IS NOT NULL ORDER BY id

-- name: keep_secret
-- The secret of this name; the given one, if there was none.
INSERT INTO secrets (name, value) VALUES (%(name)s, %(value)s)
ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING value

-- name: claim_callbacks
-- Those that are due, the longest waiting first, as many as there is room for: in all, and with each receiver,
-- so that none who is slow takes the room of others. Whoever claims and dies leaves them to others after the lease.
WITH RECURSIVE receivers AS (
    (SELECT receiver FROM callbacks WHERE status = 'PENDING' ORDER BY receiver LIMIT 1)
    UNION ALL
    SELECT (SELECT c.receiver FROM callbacks AS c WHERE c.status = 'PENDING' AND c.receiver > r.receiver
            ORDER BY c.receiver LIMIT 1)
    FROM receivers AS r WHERE r.receiver IS NOT NULL
), due AS (
    SELECT c.id FROM receivers AS r, LATERAL (
        SELECT id, next_at FROM callbacks
        WHERE status = 'PENDING' AND receiver = r.receiver AND next_at <= now()
        ORDER BY next_at LIMIT greatest(0, %(each)s - coalesce((%(busy)s::jsonb ->> r.receiver)::int, 0))
        FOR UPDATE SKIP LOCKED) AS c
    ORDER BY c.next_at LIMIT %(room)s
)
UPDATE callbacks AS c SET attempts = attempts + 1, next_at = now() + %(lease)s * interval '1 second'
FROM due WHERE c.id = due.id
RETURNING c.id, c.webhook_id, c.type, c.callback_url, c.receiver, c.payload, c.attempts, c.tries_before, c.created_at

-- name: record_deliveries
-- What tries came to. The log has all of them; the newest decides. One that would be tried again only after the
-- time to give up has failed.
WITH outcome AS (
    SELECT * FROM jsonb_to_recordset(%(outcomes)s) AS o (
        id bigint, number integer, at timestamptz, status_code integer, error text, duration real, status text,
        delay float8)
), logged AS (
    INSERT INTO callback_attempts (callback_id, number, at, status_code, error, duration)
    SELECT id, number, at, status_code, error, duration FROM outcome ON CONFLICT DO NOTHING
), judged AS (
    SELECT c.id, now() + o.delay * interval '1 second' AS again,
           CASE WHEN o.status = 'PENDING' AND now() + o.delay * interval '1 second' > c.give_up_at THEN 'FAILED'
                ELSE o.status END AS verdict
    FROM callbacks AS c JOIN outcome AS o ON o.id = c.id AND o.number = c.attempts
    WHERE c.status = 'PENDING' ORDER BY c.id FOR UPDATE OF c
)
UPDATE callbacks AS c
SET status = verdict, next_at = CASE WHEN verdict = 'PENDING' THEN again END,
    completed_at = CASE WHEN verdict <> 'PENDING' THEN now() END
FROM judged WHERE c.id = judged.id
RETURNING c.id, c.type, c.status, c.attempts, c.receiver, c.task_id, c.batch_id

-- name: get_callback
SELECT * FROM callbacks WHERE id = %(id)s

-- name: callback_attempts
SELECT number, at, status_code, error, duration FROM callback_attempts WHERE callback_id = %(id)s ORDER BY number

-- name: replay_callback
UPDATE callbacks
SET status = 'PENDING', next_at = now(), give_up_at = now() + interval '1 day', tries_before = attempts,
    completed_at = NULL
WHERE id = %(id)s RETURNING *
