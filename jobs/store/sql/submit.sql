-- name: insert_batch
INSERT INTO batches (total) VALUES (%(total)s) RETURNING *

-- name: insert_tasks
-- One row a document; ids are given in the order of the documents.
WITH incoming AS (
    SELECT row_number() OVER () AS position, doc.*
    FROM jsonb_to_recordset(%(documents)s) AS doc (
        task_type text, prompt text, model text, input jsonb, metadata jsonb, priority smallint, queue text,
        max_retries integer, timeout_seconds integer, retry jsonb, run_at timestamptz, delay_seconds float8,
        account_id bigint, schedule_id bigint, execution_id bigint, parent_task_id bigint, unique_key text)
), created AS (
    INSERT INTO tasks (task_type, prompt, model, input, metadata, status, priority, queue, max_retries,
                       timeout_seconds, retry, run_at, due_at, announced_at, batch_id, request_id,
                       account_id, schedule_id, execution_id, parent_task_id, unique_key)
    SELECT task_type, prompt, model, input, metadata, 'PENDING', priority, queue, max_retries,
           timeout_seconds, retry, at, CASE WHEN at > now() THEN at END, CASE WHEN at > now() THEN NULL ELSE now() END,
           %(batch_id)s, %(request_id)s, account_id, schedule_id, execution_id, parent_task_id, unique_key
    FROM incoming, LATERAL (SELECT coalesce(run_at, now() + delay_seconds * interval '1 second') AS at) AS asked
    ORDER BY position
    ON CONFLICT (unique_key)
        WHERE unique_key IS NOT NULL AND status IN ('BLOCKED', 'PENDING', 'PROCESSING', 'RETRYING') DO NOTHING
    RETURNING *
), logged AS (
    INSERT INTO task_events (task_id, to_status, attempt) SELECT id, status, attempt FROM created
)
SELECT * FROM created ORDER BY id

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
