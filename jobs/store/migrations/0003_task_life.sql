-- What a task may ask for, and what is kept of its attempts.
ALTER TABLE tasks
    -- Whose it is: an account or an API key. Owners share the slots of a queue in turn.
    ADD COLUMN owner text NOT NULL DEFAULT '',
    -- The lane that performs it, and for model calls the model: tasks of one pool wait for the same limits.
    ADD COLUMN pool text NOT NULL DEFAULT 'coroutine',
    ADD COLUMN depends_on bigint[] NOT NULL DEFAULT '{}',
    -- How many of them have not completed.
    ADD COLUMN parents_left integer NOT NULL DEFAULT 0 CHECK (parents_left >= 0),
    -- Whether others may still wait for this one.
    ADD COLUMN has_children boolean NOT NULL DEFAULT false,
    ADD COLUMN callback_url text,
    ADD COLUMN stream boolean NOT NULL DEFAULT false,
    ADD COLUMN profile boolean NOT NULL DEFAULT false,
    -- Equal for equal type, model, prompt and input.
    ADD COLUMN input_hash bigint,
    ADD COLUMN progress_message text,
    -- Since when it could have been started, and when its provider first asked it to wait.
    ADD COLUMN ready_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN limited_since timestamptz,
    -- Of the last attempt.
    ADD COLUMN waited_seconds real,
    ADD COLUMN run_seconds real;

-- Who waits for whom. `done`: the parent's end was accounted for.
CREATE TABLE task_parents (
    parent_id bigint NOT NULL,
    child_id  bigint NOT NULL,
    done      boolean NOT NULL DEFAULT false,
    PRIMARY KEY (child_id, parent_id)
);
CREATE INDEX task_parents_open ON task_parents (parent_id) WHERE NOT done;
CREATE INDEX tasks_to_release ON tasks (completed_at) WHERE has_children AND completed_at IS NOT NULL;

-- Results to give again to equal tasks.
CREATE INDEX tasks_by_input ON tasks (input_hash, completed_at) WHERE status = 'COMPLETED';

-- The reconciler pages through all that were announced.
DROP INDEX tasks_announced;
CREATE INDEX tasks_announced ON tasks (announced_at, id)
    WHERE status IN ('PENDING', 'RETRYING') AND announced_at IS NOT NULL;

-- A batch whose tasks all existed already is empty.
ALTER TABLE batches
    DROP CONSTRAINT batches_total_check,
    ADD CHECK (total >= 0),
    ADD COLUMN callback_url text,
    ADD COLUMN completed_at timestamptz;
UPDATE batches AS b SET completed_at = now() WHERE NOT EXISTS (
    SELECT FROM tasks WHERE batch_id = b.id AND status IN ('BLOCKED', 'PENDING', 'PROCESSING', 'RETRYING'));
CREATE INDEX batches_open ON batches (id) WHERE completed_at IS NULL;
CREATE INDEX tasks_open_of_batch ON tasks (batch_id)
    WHERE batch_id IS NOT NULL AND status IN ('BLOCKED', 'PENDING', 'PROCESSING', 'RETRYING');

-- Where an attempt spent its time, as a page, for tasks that asked for it.
CREATE TABLE task_profiles (
    task_id bigint NOT NULL,
    attempt integer NOT NULL,
    page    text NOT NULL,
    PRIMARY KEY (task_id, attempt)
);
