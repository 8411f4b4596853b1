-- Numbers about ended tasks, which outlive the tasks. Each table has two parts. The transaction that ends tasks adds
-- rows to the new part, which has no key that writers could wait for each other at; every few seconds the scheduler
-- moves them into the summed part, one row for each key. Whoever reads adds up both: what was counted is seen at
-- once, and exactly once. In the summed part, the time '-infinity' has the sums since ever, which clean-up leaves.

-- How tasks ended, by clock hour. A task that is retried by hand ends again, and counts again.
CREATE TABLE ends (
    is_new     boolean NOT NULL,
    hour       timestamptz NOT NULL,
    task_type  text NOT NULL,
    status     text NOT NULL,
    error_code text NOT NULL,  -- '': none
    tasks      bigint NOT NULL,
    attempts   bigint NOT NULL
) PARTITION BY LIST (is_new);
CREATE TABLE ends_new PARTITION OF ends FOR VALUES IN (true);
CREATE TABLE ends_summed PARTITION OF ends FOR VALUES IN (false);
ALTER TABLE ends_summed ADD PRIMARY KEY (hour, task_type, status, error_code);

-- How long their last attempts waited and ran: bucket b has the times above 2^((b-1)/6) and up to 2^(b/6) seconds.
CREATE TABLE durations (
    is_new    boolean NOT NULL,
    hour      timestamptz NOT NULL,
    task_type text NOT NULL,
    bucket    smallint NOT NULL,
    waited    bigint NOT NULL,
    waited_us bigint NOT NULL,  -- microseconds: sums of whole numbers never go back
    run       bigint NOT NULL,
    run_us    bigint NOT NULL
) PARTITION BY LIST (is_new);
CREATE TABLE durations_new PARTITION OF durations FOR VALUES IN (true);
CREATE TABLE durations_summed PARTITION OF durations FOR VALUES IN (false);
-- All task types together have sums of their own here, as the type ''.
ALTER TABLE durations_summed ADD PRIMARY KEY (task_type, hour, bucket);
CREATE INDEX durations_ever ON durations_summed (task_type) WHERE hour = '-infinity';

-- What providers counted for them, by day (UTC). The sums since ever are not kept by account.
CREATE TABLE tokens (
    is_new            boolean NOT NULL,
    day               date NOT NULL,
    model             text NOT NULL,
    account_id        bigint NOT NULL,  -- 0: none
    task_type         text NOT NULL,
    tasks             bigint NOT NULL,
    prompt_tokens     bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    total_tokens      bigint NOT NULL
) PARTITION BY LIST (is_new);
CREATE TABLE tokens_new PARTITION OF tokens FOR VALUES IN (true);
CREATE TABLE tokens_summed PARTITION OF tokens FOR VALUES IN (false);
ALTER TABLE tokens_summed ADD PRIMARY KEY (day, model, account_id, task_type);

-- A number in what a provider sent as its usage, whatever that is.
CREATE FUNCTION token_count(usage jsonb, name text) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN jsonb_typeof(usage -> name) = 'number'
            THEN greatest(0, least(1e12, (usage ->> name)::numeric))::bigint ELSE 0 END;

-- For the depth of the queues, and the age of what waits in them.
CREATE INDEX tasks_waiting ON tasks (queue, ready_at) WHERE status IN ('PENDING', 'RETRYING');
