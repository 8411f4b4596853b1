-- What we make up once and must not forget.
CREATE TABLE secrets (
    name  text PRIMARY KEY,
    value text NOT NULL
);

-- Word of the end of tasks and batches, made in the transaction that ended them, to be delivered.
CREATE TABLE callbacks (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Tells receivers that two messages are tries of the same one.
    webhook_id   text NOT NULL DEFAULT 'msg_' || replace(gen_random_uuid()::text, '-', ''),
    type         text NOT NULL,
    task_id      bigint,
    batch_id     bigint,
    callback_url text NOT NULL,
    -- Host and port: those of one receiver share a limit.
    receiver     text NOT NULL GENERATED ALWAYS AS
                 (lower(regexp_replace(split_part(split_part(callback_url, '/', 3), '?', 1), '^.*@', ''))) STORED,
    -- How the task or batch was then.
    payload      jsonb NOT NULL,
    status       text NOT NULL DEFAULT 'PENDING' CHECK (status IN ('PENDING', 'DELIVERED', 'FAILED')),
    -- All that were begun; the newest alone may change the row. Tries before
    -- the last replay do not count for the pauses.
    attempts     integer NOT NULL DEFAULT 0,
    tries_before integer NOT NULL DEFAULT 0,
    -- When to try next; while a try is under way, when it is taken for lost.
    next_at      timestamptz DEFAULT now(),
    give_up_at   timestamptz NOT NULL DEFAULT now() + interval '1 day',
    created_at   timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    CHECK ((task_id IS NULL) <> (batch_id IS NULL)),
    CHECK ((status = 'PENDING') = (next_at IS NOT NULL)),
    CHECK ((status = 'PENDING') = (completed_at IS NULL))
);
CREATE INDEX callbacks_due ON callbacks (receiver, next_at) WHERE status = 'PENDING';
CREATE INDEX callbacks_by_status ON callbacks (status, id);
CREATE INDEX callbacks_by_task ON callbacks (task_id, id) WHERE task_id IS NOT NULL;
CREATE INDEX callbacks_by_batch ON callbacks (batch_id, id) WHERE batch_id IS NOT NULL;
CREATE INDEX callbacks_by_age ON callbacks (created_at);

-- One row a try. No foreign key; clean-up removes both together.
CREATE TABLE callback_attempts (
    callback_id bigint NOT NULL,
    number      integer NOT NULL,
    at          timestamptz NOT NULL,
    status_code integer,
    error       text,
    duration    real NOT NULL,
    PRIMARY KEY (callback_id, number)
);
