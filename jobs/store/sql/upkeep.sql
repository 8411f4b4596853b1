-- name: forget_tasks
-- Ended tasks past their retention, with what belongs to them, a limited number at a time.
WITH old AS (
    SELECT id FROM tasks
    WHERE status IN ('COMPLETED', 'FAILED', 'CANCELLED') AND created_at < now() - %(days)s * interval '1 day'
      AND completed_at < now() - %(days)s * interval '1 day'
    ORDER BY created_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), events AS (
    DELETE FROM task_events USING old WHERE task_id = old.id
)
DELETE FROM tasks USING old WHERE tasks.id = old.id RETURNING tasks.id

-- name: forget_executions
DELETE FROM executions WHERE id IN (
    SELECT id FROM executions
    WHERE status <> 'PENDING' AND scheduled_for < now() - %(days)s * interval '1 day'
    ORDER BY scheduled_for LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING id

-- name: forget_batches
DELETE FROM batches WHERE id IN (
    SELECT id FROM batches AS b
    WHERE created_at < now() - %(days)s * interval '1 day' AND NOT EXISTS (SELECT FROM tasks WHERE batch_id = b.id)
    ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING id

-- name: forget_callbacks
WITH old AS (
    SELECT id FROM callbacks
    WHERE status <> 'PENDING' AND created_at < now() - %(days)s * interval '1 day'
    ORDER BY created_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), attempts AS (
    DELETE FROM callback_attempts USING old WHERE callback_id = old.id
)
DELETE FROM callbacks USING old WHERE callbacks.id = old.id RETURNING callbacks.id

-- name: forget_alerts
DELETE FROM alerts WHERE id IN (
    SELECT id FROM alerts WHERE status <> 'OPEN' AND opened_at < now() - %(days)s * interval '1 day'
    ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING id

-- name: cost_statistics
SELECT model, task_type, account_id, count(*) AS tasks,
       coalesce(sum((usage ->> 'prompt_tokens')::numeric), 0)::bigint AS prompt_tokens,
       coalesce(sum((usage ->> 'completion_tokens')::numeric), 0)::bigint AS completion_tokens,
       coalesce(sum((usage ->> 'total_tokens')::numeric), 0)::bigint AS total_tokens
FROM tasks
WHERE created_at >= now() - %(hours)s * interval '1 hour' AND usage IS NOT NULL
GROUP BY model, task_type, account_id ORDER BY total_tokens DESC, model, task_type, account_id

-- name: monitoring_report
SELECT task_type, count(*) AS tasks,
       count(*) FILTER (WHERE status = 'COMPLETED') AS completed,
       count(*) FILTER (WHERE status = 'FAILED') AS failed,
       count(*) FILTER (WHERE status = 'CANCELLED') AS cancelled,
       count(*) FILTER (WHERE completed_at IS NULL) AS unfinished,
       round(avg(extract(epoch FROM started_at - created_at))::numeric, 3)::float8 AS mean_wait_seconds,
       round(avg(extract(epoch FROM completed_at - started_at))::numeric, 3)::float8 AS mean_run_seconds
FROM tasks WHERE created_at >= now() - %(hours)s * interval '1 hour'
GROUP BY task_type ORDER BY task_type

-- name: error_codes
SELECT error ->> 'code' AS code, count(*) AS count FROM tasks
WHERE created_at >= now() - %(hours)s * interval '1 hour' AND status = 'FAILED'
GROUP BY 1 ORDER BY count DESC, code

-- name: server_version
SELECT current_setting('server_version_num')::int AS number
