-- Two indexes behind all lists of tasks, where there were five; see jobs/store/parts.py. A task moves three times, and
-- each time every index takes another entry, so few of them is what makes a claim and an outcome cheap.
CREATE INDEX tasks_by_part ON tasks (status, task_type, priority, id);
CREATE INDEX tasks_by_part_and_time ON tasks (status, task_type, priority, created_at, id);
DROP INDEX tasks_by_status, tasks_by_type, tasks_by_priority, tasks_by_queue, tasks_by_created;

-- Events are only ever looked for by their task.
ALTER TABLE task_events DROP CONSTRAINT task_events_pkey, ADD PRIMARY KEY (task_id, id);
DROP INDEX task_events_by_task;

-- Of a million tasks, the usual fifth would be 200,000 dead rows before anybody cleans up, or counts again for the
-- planner, whose numbers long lists show as their totals.
ALTER TABLE tasks SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02,
                       autovacuum_analyze_scale_factor = 0.02);
