-- For lists of contents by category: to find the few of a rare one, and to count them, all were read, twice. An account's
-- default category may be longer than an index can hold.
CREATE INDEX contents_by_category ON contents (left(category, 500), id) WHERE category IS NOT NULL;

-- For one schedule's firings of a month: without a look at the dates, the planner reads all schedules' of that time.
CREATE INDEX executions_by_schedule_and_time ON executions (schedule_id, scheduled_for);
