-- name: register_worker
INSERT INTO workers (kind, name, host, pid, queues, capacity)
VALUES (%(kind)s, %(name)s, %(host)s, %(pid)s, %(queues)s, %(capacity)s) RETURNING id

-- name: beat
-- No row: this process was given up for dead, and its tasks belong to others now.
UPDATE workers SET last_heartbeat = now(), running = %(running)s
WHERE id = %(id)s AND stopped_at IS NULL RETURNING id

-- name: cancel_wishes
-- Tasks of this worker that somebody asked to cancel, in case the signal was lost.
SELECT id FROM tasks WHERE worker_id = %(id)s AND status = 'PROCESSING' AND cancel_requested_at IS NOT NULL

-- name: sign_off
UPDATE workers SET stopped_at = now(), running = 0 WHERE id = %(id)s AND stopped_at IS NULL

-- name: alive
SELECT kind, name, host, pid, queues, running, capacity, started_at, last_heartbeat FROM workers
WHERE stopped_at IS NULL AND last_heartbeat >= now() - %(lease)s * interval '1 second'
ORDER BY name
