-- By queue: the reconciler looks for what Redis lost in each by itself, and an alert asks for the oldest of each.
DROP INDEX tasks_announced;
CREATE INDEX tasks_announced ON tasks (queue, announced_at, id)
    WHERE status IN ('PENDING', 'RETRYING') AND announced_at IS NOT NULL;
