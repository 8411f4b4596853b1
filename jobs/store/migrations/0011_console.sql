-- For the console's last hour. Tasks that ended together lie together, more or less, so summaries of pages do, which
-- cost next to nothing to keep.
CREATE INDEX tasks_by_end ON tasks USING brin (completed_at) WITH (autosummarize = on);
