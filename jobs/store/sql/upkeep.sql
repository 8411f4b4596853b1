-- name: forget_tasks
-- Ended tasks past their retention, with what belongs to them, a limited number at a time: those of some types, or of
-- all but these; in the order of an index that has them together. A task stays while one that depends on it has not
-- ended; has_children is asked, too, because it shows a child that comes at this very moment.
WITH old AS (
    SELECT id FROM tasks AS t
    WHERE status IN ('COMPLETED', 'FAILED', 'CANCELLED') AND created_at < now() - %(days)s * interval '1 day'
      AND completed_at < now() - %(days)s * interval '1 day'
      AND (task_type = ANY (%(types)s)) <> %(others)s AND NOT has_children
      AND NOT EXISTS (SELECT FROM task_parents AS l JOIN tasks AS child ON child.id = l.child_id
                      WHERE l.parent_id = t.id AND child.status IN ('BLOCKED', 'PENDING', 'PROCESSING', 'RETRYING'))
    ORDER BY status, task_type, priority, created_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), events AS (
    DELETE FROM task_events USING old WHERE task_id = old.id
), profiles AS (
    DELETE FROM task_profiles USING old WHERE task_id = old.id
), kept AS (
    DELETE FROM answers USING old WHERE task_id = old.id
), as_parents AS (
    DELETE FROM task_parents USING old WHERE parent_id = old.id
), as_children AS (
    DELETE FROM task_parents USING old WHERE child_id = old.id AND parent_id NOT IN (SELECT id FROM old)
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

-- name: forget_audit
DELETE FROM audit WHERE id IN (
    SELECT id FROM audit WHERE created_at < now() - %(days)s * interval '1 day'
    ORDER BY created_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING id

-- name: forget_sessions
DELETE FROM sessions WHERE digest IN (
    SELECT digest FROM sessions WHERE expires_at < now() LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING key_name

-- name: server_version
SELECT current_setting('server_version_num')::int AS number

-- name: examine_server
-- What `doctor` looks at.
SELECT current_setting('server_version') AS version, clock_timestamp() AS now,
       (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector

-- name: applied_migrations
SELECT name FROM schema_migrations
