-- Batches: tasks submitted together. How far one is follows from its tasks.
CREATE TABLE batches (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    total        integer NOT NULL CHECK (total > 0),
    created_at   timestamptz NOT NULL DEFAULT now(),
    cancelled_at timestamptz
);

-- Processes that beat: workers, and the scheduler that watches them.
CREATE TABLE workers (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind           text NOT NULL CHECK (kind IN ('worker', 'scheduler')),
    name           text NOT NULL,
    host           text NOT NULL,
    pid            integer NOT NULL,
    queues         text[] NOT NULL DEFAULT '{}',
    capacity       integer NOT NULL DEFAULT 0,
    running        integer NOT NULL DEFAULT 0,
    started_at     timestamptz NOT NULL DEFAULT now(),
    last_heartbeat timestamptz NOT NULL DEFAULT now(),
    -- Set by the process when it stops, or by the reconciler when it stopped beating.
    stopped_at     timestamptz
);
CREATE INDEX workers_alive ON workers (kind, last_heartbeat) WHERE stopped_at IS NULL;

CREATE TABLE tasks (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task_type       text NOT NULL,
    prompt          text,
    model           text,
    input           jsonb NOT NULL DEFAULT '{}',
    metadata        jsonb NOT NULL DEFAULT '{}',
    status          text NOT NULL CHECK (status IN
                    ('BLOCKED', 'PENDING', 'PROCESSING', 'RETRYING', 'COMPLETED', 'FAILED', 'CANCELLED')),
    priority        smallint NOT NULL CHECK (priority BETWEEN 1 AND 10),
    queue           text NOT NULL CHECK (queue IN ('high', 'default', 'low')),
    progress        smallint NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 100),
    attempt         integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    max_retries     integer NOT NULL CHECK (max_retries >= 0),
    timeout_seconds integer NOT NULL CHECK (timeout_seconds > 0),
    retry           jsonb NOT NULL,
    result          jsonb,
    error           jsonb,
    usage           jsonb,
    -- run_at is what the caller asked for; due_at is when it may next be claimed (NULL: now).
    run_at          timestamptz,
    due_at          timestamptz,
    -- When its id was last put on its queue; NULL while it waits for due_at.
    announced_at    timestamptz,
    -- Counts claims and never goes back: the token that an outcome must show to be recorded.
    fence           integer NOT NULL DEFAULT 0,
    -- No foreign key: checking it on every claim costs, and rows of old workers are removed.
    worker_id       bigint,
    cancel_requested_at timestamptz,
    batch_id        bigint REFERENCES batches (id),
    account_id      bigint,
    request_id      text,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    started_at      timestamptz,
    completed_at    timestamptz,
    CHECK ((completed_at IS NOT NULL) = (status IN ('COMPLETED', 'FAILED', 'CANCELLED'))),
    CHECK ((worker_id IS NOT NULL) = (status = 'PROCESSING')),
    CHECK (status <> 'COMPLETED' OR error IS NULL),
    CHECK (status <> 'FAILED' OR error IS NOT NULL)
);

-- For the lists of the API; each ends in id, the tie-breaker of every order.
CREATE INDEX tasks_by_status ON tasks (status, id);
CREATE INDEX tasks_by_priority ON tasks (priority, id);
CREATE INDEX tasks_by_type ON tasks (task_type, id);
CREATE INDEX tasks_by_queue ON tasks (queue, id);
CREATE INDEX tasks_by_created ON tasks (created_at, id);
CREATE INDEX tasks_by_batch ON tasks (batch_id, id) WHERE batch_id IS NOT NULL;
CREATE INDEX tasks_by_account ON tasks (account_id, id) WHERE account_id IS NOT NULL;

-- For the reconciler: small, whatever the size of the table.
CREATE INDEX tasks_announced ON tasks (queue, announced_at)
    WHERE status IN ('PENDING', 'RETRYING') AND announced_at IS NOT NULL;
CREATE INDEX tasks_due ON tasks (due_at) WHERE status IN ('PENDING', 'RETRYING') AND announced_at IS NULL;
CREATE INDEX tasks_running ON tasks (worker_id) WHERE status = 'PROCESSING';

-- One row a transition. No foreign key, for the same reason as above; clean-up removes both together.
CREATE TABLE task_events (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task_id     bigint NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    from_status text,
    to_status   text NOT NULL,
    attempt     integer NOT NULL,
    worker      text,
    detail      jsonb
);
CREATE INDEX task_events_by_task ON task_events (task_id, id);

-- What was answered to a request that carried an Idempotency-Key.
CREATE TABLE idempotency_keys (
    key          text PRIMARY KEY,
    request_hash bytea NOT NULL,
    task_id      bigint,
    batch_id     bigint,
    created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
