-- What operators are told. OPEN while a problem lasts, then RESOLVED; what merely happened is NOTED.
CREATE TABLE alerts (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rule        text NOT NULL,
    -- Which of the problems that the rule can find.
    subject     text NOT NULL DEFAULT '',
    level       text NOT NULL CHECK (level IN ('info', 'warning', 'error', 'critical')),
    title       text NOT NULL,
    message     text NOT NULL,
    status      text NOT NULL CHECK (status IN ('OPEN', 'RESOLVED', 'NOTED')),
    opened_at   timestamptz NOT NULL DEFAULT now(),
    closed_at   timestamptz,
    -- When the problem was last there; of what happened, up to when it was looked for.
    seen_at     timestamptz NOT NULL DEFAULT now(),
    -- What the receiver was last told, and when.
    told_status text,
    told_at     timestamptz,
    -- When to tell next; NULL: there is nothing to tell.
    next_at     timestamptz,
    failures    integer NOT NULL DEFAULT 0,
    CHECK ((status = 'OPEN') = (closed_at IS NULL))
);
CREATE UNIQUE INDEX alerts_open ON alerts (rule, subject) WHERE status = 'OPEN';
CREATE INDEX alerts_to_tell ON alerts (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX alerts_noted ON alerts (rule, id) WHERE status = 'NOTED';

-- Stopped beating, rather than signed off.
ALTER TABLE workers ADD COLUMN is_lost boolean NOT NULL DEFAULT false;

-- What the rules look for, by when it happened.
CREATE INDEX tasks_failed ON tasks (completed_at) WHERE status = 'FAILED';
CREATE INDEX executions_missed ON executions (created_at) WHERE reason = 'misfire_policy';
