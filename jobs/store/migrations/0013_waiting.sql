-- For the counts of what waits, and for nothing else: until ANALYZE has seen a hundred thousand new tasks, the planner
-- takes this index to be empty, and read all of it where the reconciler wants the first few of another. Only a query
-- that says `queue <> ''`, which is always true, may use it now.
DROP INDEX tasks_waiting;
CREATE INDEX tasks_waiting ON tasks (queue, ready_at) WHERE status IN ('PENDING', 'RETRYING') AND queue <> '';
