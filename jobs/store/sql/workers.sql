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
SELECT id, last_heartbeat FROM workers WHERE stopped_at IS NULL

-- name: alive
SELECT kind, name, host, pid, queues, running, capacity, started_at, last_heartbeat FROM workers
WHERE stopped_at IS NULL AND last_heartbeat >= now() - %(lease)s * interval '1 second'
ORDER BY name
