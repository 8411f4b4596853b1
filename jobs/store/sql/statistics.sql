-- The numbers behind /stats, /metrics and the reports. The migration 0006 has the tables and says how they work.

-- name: count_ended
-- In the transaction that ends the tasks.
WITH ended AS MATERIALIZED (
    SELECT id, date_trunc('hour', completed_at, 'UTC') AS hour, task_type, status, attempt, waited_seconds, run_seconds,
           CASE WHEN status = 'FAILED' THEN left(error ->> 'code', 100) ELSE '' END AS error_code,
           coalesce(model, '') AS model, coalesce(account_id, 0) AS account_id, usage
    FROM tasks WHERE id = ANY (%(ids)s)
), counted AS (
    INSERT INTO ends_new
    SELECT true, hour, task_type, status, coalesce(error_code, ''), count(*), sum(attempt)
    FROM ended GROUP BY 2, 3, 4, 5
), timed AS (
    INSERT INTO durations_new
    SELECT true, hour, task_type, ceil(6 / ln(2.0::float8) * ln(greatest(seconds, 0.001)::float8)),
           count(*) FILTER (WHERE waited), coalesce(sum(round(1e6 * seconds::float8)) FILTER (WHERE waited), 0),
           count(*) FILTER (WHERE NOT waited), coalesce(sum(round(1e6 * seconds::float8)) FILTER (WHERE NOT waited), 0)
    FROM ended, LATERAL (VALUES (true, waited_seconds), (false, run_seconds)) AS time (waited, seconds)
    WHERE seconds IS NOT NULL GROUP BY 2, 3, 4
)
INSERT INTO tokens_new
SELECT true, (hour AT TIME ZONE 'UTC')::date, share.model, account_id, task_type, count(*) FILTER (WHERE is_first),
       sum(token_count(share.usage, 'prompt_tokens')), sum(token_count(share.usage, 'completion_tokens')),
       sum(token_count(share.usage, 'total_tokens'))
FROM ended, LATERAL (
    -- Where other models answered, too, the task counts with its own, or the first of them.
    SELECT key AS model, value AS usage, row_number() OVER (ORDER BY key <> ended.model, key) = 1 AS is_first
    FROM jsonb_each(CASE WHEN jsonb_typeof(ended.usage -> 'by_model') = 'object' THEN ended.usage -> 'by_model'
                         ELSE jsonb_build_object(ended.model, ended.usage) END)) AS share
WHERE ended.usage IS NOT NULL GROUP BY 2, 3, 4, 5

-- name: fold_ends
WITH moved AS (
    DELETE FROM ends_new WHERE ctid = ANY (ARRAY(SELECT ctid FROM ends_new LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
    RETURNING *
)
INSERT INTO ends_summed AS s (is_new, hour, task_type, status, error_code, tasks, attempts)
SELECT false, at, task_type, status, error_code, sum(tasks), sum(attempts)
FROM moved, LATERAL (VALUES (hour), ('-infinity')) AS v (at)
GROUP BY at, task_type, status, error_code ORDER BY at, task_type, status, error_code
ON CONFLICT (hour, task_type, status, error_code) DO UPDATE
SET tasks = s.tasks + excluded.tasks, attempts = s.attempts + excluded.attempts

-- name: fold_durations
WITH moved AS (
    DELETE FROM durations_new
    WHERE ctid = ANY (ARRAY(SELECT ctid FROM durations_new LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
    RETURNING *
)
INSERT INTO durations_summed AS s (is_new, hour, task_type, bucket, waited, waited_us, run, run_us)
SELECT false, at, v.task_type, bucket, sum(waited), sum(waited_us), sum(run), sum(run_us)
FROM moved, LATERAL (VALUES (hour, moved.task_type), (hour, ''), ('-infinity', moved.task_type)) AS v (at, task_type)
GROUP BY at, v.task_type, bucket ORDER BY at, v.task_type, bucket
ON CONFLICT (task_type, hour, bucket) DO UPDATE
SET waited = s.waited + excluded.waited, waited_us = s.waited_us + excluded.waited_us,
    run = s.run + excluded.run, run_us = s.run_us + excluded.run_us

-- name: fold_tokens
WITH moved AS (
    DELETE FROM tokens_new WHERE ctid = ANY (ARRAY(SELECT ctid FROM tokens_new LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
    RETURNING *
)
INSERT INTO tokens_summed AS s (is_new, day, model, account_id, task_type, tasks, prompt_tokens, completion_tokens,
                                total_tokens)
SELECT false, at, model, account, task_type, sum(tasks), sum(prompt_tokens), sum(completion_tokens), sum(total_tokens)
FROM moved, LATERAL (VALUES (day, account_id), ('-infinity', 0)) AS v (at, account)
GROUP BY at, model, account, task_type ORDER BY at, model, account, task_type
ON CONFLICT (day, model, account_id, task_type) DO UPDATE
SET tasks = s.tasks + excluded.tasks, prompt_tokens = s.prompt_tokens + excluded.prompt_tokens,
    completion_tokens = s.completion_tokens + excluded.completion_tokens,
    total_tokens = s.total_tokens + excluded.total_tokens

-- name: forget_statistics
WITH old_ends AS (
    DELETE FROM ends_summed WHERE hour > '-infinity' AND hour < now() - %(days)s * interval '1 day'
), old_durations AS (
    DELETE FROM durations_summed WHERE hour > '-infinity' AND hour < now() - %(days)s * interval '1 day'
)
DELETE FROM tokens_summed WHERE day > '-infinity' AND day < (now() - %(days)s * interval '1 day')::date

-- name: ends_since
-- By status and error code, and where asked for by hour; of one task type, or of all ('').
SELECT CASE WHEN %(by_hour)s THEN hour END AS hour, status, error_code, sum(tasks)::bigint AS tasks,
       sum(attempts)::bigint AS attempts
FROM ends WHERE hour >= %(since)s AND %(task_type)s IN ('', task_type)
GROUP BY 1, 2, 3

-- name: durations_since
-- Likewise, all hours together. The buckets that hold anything, as arrays: many values are read fastest so.
SELECT array_agg(bucket) AS buckets, array_agg(waited) AS waited, array_agg(waited_us) AS waited_us,
       array_agg(run) AS run, array_agg(run_us) AS run_us
FROM (SELECT bucket, sum(waited::float8)::bigint AS waited, sum(waited_us::float8)::bigint AS waited_us,
             sum(run::float8)::bigint AS run, sum(run_us::float8)::bigint AS run_us
      FROM (SELECT * FROM durations_summed WHERE task_type = %(task_type)s AND hour >= %(since)s
            UNION ALL
            SELECT * FROM durations_new WHERE %(task_type)s IN ('', task_type) AND hour >= %(since)s) AS d
      GROUP BY bucket) AS d
HAVING count(*) > 0

-- name: durations_by_hour
-- Likewise, hour by hour; a bucket may come several times.
SELECT hour, array_agg(bucket) AS buckets, array_agg(waited) AS waited, array_agg(waited_us) AS waited_us,
       array_agg(run) AS run, array_agg(run_us) AS run_us
FROM (SELECT * FROM durations_summed WHERE task_type = %(task_type)s AND hour >= %(since)s
      UNION ALL
      SELECT * FROM durations_new WHERE %(task_type)s IN ('', task_type) AND hour >= %(since)s) AS d
GROUP BY hour

-- name: types_since
SELECT DISTINCT task_type FROM ends WHERE hour >= %(since)s ORDER BY task_type

-- name: tokens_since
-- By each of them and the model, which has the price; `by` says which of them.
SELECT CASE WHEN grouping(day) = 0 THEN 'day' WHEN grouping(account_id) = 0 THEN 'account_id'
            WHEN grouping(task_type) = 0 THEN 'task_type' ELSE 'model' END AS by,
       model, day, nullif(account_id, 0) AS account_id, task_type, sum(tasks)::bigint AS tasks,
       sum(prompt_tokens)::bigint AS prompt_tokens, sum(completion_tokens)::bigint AS completion_tokens,
       sum(total_tokens)::bigint AS total_tokens
FROM tokens WHERE day >= %(since)s
GROUP BY GROUPING SETS ((model), (model, day), (model, account_id), (model, task_type))

-- name: ends_ever
SELECT task_type, status, error_code, sum(tasks)::bigint AS tasks, sum(attempts)::bigint AS attempts
FROM (SELECT * FROM ends_summed WHERE hour = '-infinity' UNION ALL SELECT * FROM ends_new) AS ever GROUP BY task_type, status, error_code

-- name: durations_ever
SELECT task_type, array_agg(bucket) AS buckets, array_agg(waited) AS waited,
       array_agg(waited_us) AS waited_us, array_agg(run) AS run, array_agg(run_us) AS run_us
FROM (SELECT * FROM durations_summed WHERE hour = '-infinity' UNION ALL SELECT * FROM durations_new) AS ever GROUP BY task_type

-- name: tokens_ever
SELECT model, sum(tasks)::bigint AS tasks, sum(prompt_tokens)::bigint AS prompt_tokens,
       sum(completion_tokens)::bigint AS completion_tokens, sum(total_tokens)::bigint AS total_tokens
FROM (SELECT * FROM tokens_summed WHERE day = '-infinity' UNION ALL SELECT * FROM tokens_new) AS ever GROUP BY model

-- name: queue_depths
-- Tasks that could be started now, and those whose time has not come; BLOCKED ones wait for other tasks.
SELECT queue, count(*) FILTER (WHERE ready_at <= now()) AS depth, count(*) FILTER (WHERE ready_at > now()) AS delayed,
       extract(epoch FROM now() - min(ready_at) FILTER (WHERE ready_at <= now()))::float8 AS oldest_age_seconds
FROM tasks WHERE status IN ('PENDING', 'RETRYING') AND queue <> '' -- so that tasks_waiting serves
GROUP BY queue

-- name: count_blocked
SELECT count(*) AS tasks FROM tasks WHERE status = 'BLOCKED'

-- name: count_callbacks
SELECT count(*) AS pending FROM callbacks WHERE status = 'PENDING'

-- name: count_running
SELECT task_type, queue, count(*) AS tasks FROM tasks WHERE status = 'PROCESSING' GROUP BY task_type, queue

-- name: process_counts
-- Of those that have not signed off; alive are those that beat.
SELECT kind, count(*) FILTER (WHERE beats) AS alive,
       coalesce(sum(capacity) FILTER (WHERE beats), 0)::bigint AS capacity,
       coalesce(sum(running) FILTER (WHERE beats), 0)::bigint AS running,
       extract(epoch FROM now() - max(last_heartbeat))::float8 AS beat_age_seconds
FROM workers, LATERAL (SELECT last_heartbeat >= now() - %(lease)s * interval '1 second') AS alive (beats)
WHERE stopped_at IS NULL GROUP BY kind

-- name: ends_by_minute
-- How tasks ended, minute by minute.
SELECT date_trunc('minute', completed_at) AS minute, status, count(*) AS tasks
FROM tasks WHERE completed_at >= date_trunc('minute', now()) - (%(minutes)s - 1) * interval '1 minute'
GROUP BY 1, 2
