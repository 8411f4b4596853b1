-- name: get_task
SELECT * FROM tasks WHERE id = %(id)s

-- name: get_tasks
SELECT id, task_type, status, prompt, input, result, metadata FROM tasks WHERE id = ANY (%(ids)s)

-- name: broken_parents
-- Parents of a failed or cancelled task that have not completed either, nor will by themselves.
SELECT parent.id, parent.status FROM tasks AS child, tasks AS parent
WHERE child.id = %(id)s AND child.status IN ('FAILED', 'CANCELLED') AND parent.id = ANY (child.depends_on)
  AND parent.status IN ('FAILED', 'CANCELLED')
ORDER BY parent.id LIMIT 1

-- name: task_events
SELECT id, at, from_status, to_status, attempt, worker, detail FROM task_events
WHERE task_id = %(id)s AND id > %(after)s ORDER BY id

-- name: get_batch
SELECT * FROM batches WHERE id = %(id)s

-- name: batch_counts
SELECT status, count(*) AS count, max(completed_at) AS last_end FROM tasks WHERE batch_id = %(id)s GROUP BY status

-- name: batch_task_types
SELECT DISTINCT task_type FROM tasks WHERE batch_id = %(id)s

-- name: batch_errors
SELECT id AS task_id, error FROM tasks WHERE batch_id = %(id)s AND status = 'FAILED' ORDER BY id LIMIT 100

-- name: watched_tasks
-- Of watched tasks, one row for each event behind the last one that is known (`afters`), or one without an event.
SELECT t.id AS task_id, t.status, t.stream, t.fence, t.progress, t.progress_message,
       e.id, e.at, e.from_status, e.to_status, e.attempt, e.worker, e.detail,
       e.at > now() - %(fresh)s * interval '1 second' AS is_fresh
FROM unnest(%(ids)s::bigint[], %(afters)s::bigint[]) AS w (id, after)
JOIN tasks AS t ON t.id = w.id
LEFT JOIN task_events AS e ON e.task_id = t.id AND e.id > w.after
ORDER BY e.id
