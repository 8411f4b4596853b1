-- name: get_task
SELECT * FROM tasks WHERE id = %(id)s

-- name: get_tasks
SELECT id, task_type, status, prompt, input, result, metadata FROM tasks WHERE id = ANY (%(ids)s)

-- name: task_events
SELECT id, at, from_status, to_status, attempt, worker, detail FROM task_events
WHERE task_id = %(id)s AND id > %(after)s ORDER BY id

-- name: get_batch
SELECT * FROM batches WHERE id = %(id)s

-- name: batch_counts
SELECT status, count(*) AS count, max(completed_at) AS last_end FROM tasks WHERE batch_id = %(id)s GROUP BY status

-- name: batch_errors
SELECT id AS task_id, error FROM tasks WHERE batch_id = %(id)s AND status = 'FAILED' ORDER BY id LIMIT 100
