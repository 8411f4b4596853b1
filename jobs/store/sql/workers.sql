-- name: register_worker
INSERT INTO workers (kind, name, host, pid, queues, capacity)
VALUES (%(kind)s, %(name)s, %(host)s, %(pid)s, %(queues)s, %(capacity)s) RETURNING id

-- name: beat
-- No row: this process was given up for dead, and its tasks belong to others now.
UPDATE workers SET last_heartbeat = now(), running = %(running)s
WHERE id = %(id)s AND stopped_at IS NULL RETURNING id

-- name: held_by_worker
-- What this worker holds by the database's account, and what of it somebody asked to cancel.
SELECT id, fence, cancel_requested_at IS NOT NULL AS is_to_be_cancelled FROM tasks
WHERE worker_id = %(id)s AND status = 'PROCESSING'

-- name: suspect
-- Should this worker be lost now, this task is the cause.
UPDATE workers SET suspect = %(task_id)s WHERE id = %(id)s

-- name: sign_off
UPDATE workers SET stopped_at = now(), running = 0 WHERE id = %(id)s AND stopped_at IS NULL

-- name: heartbeats
-- And whether tasks of workers that have stopped are to be recovered; a row that says so is there without any worker.
-- Asked every second: one statement, which locks nothing.
SELECT id, last_heartbeat, has_lost
FROM (SELECT EXISTS (SELECT FROM tasks AS t LEFT JOIN workers AS w ON w.id = t.worker_id
                     WHERE t.status = 'PROCESSING' AND (w.id IS NULL OR w.stopped_at IS NOT NULL)) AS has_lost) AS t
LEFT JOIN workers ON stopped_at IS NULL

-- name: alive
SELECT kind, name, host, pid, queues, running, capacity, started_at, last_heartbeat FROM workers
WHERE stopped_at IS NULL AND last_heartbeat >= now() - %(lease)s * interval '1 second'
ORDER BY name
