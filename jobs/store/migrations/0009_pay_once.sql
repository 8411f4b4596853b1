-- How often a task's worker was lost while it ran, and which such task a worker runs alone, to see whether it is the
-- cause. Answers of models, kept until the task is done, so that another attempt need not ask again.
ALTER TABLE tasks ADD COLUMN lost smallint NOT NULL DEFAULT 0;
ALTER TABLE workers ADD COLUMN suspect bigint;

CREATE TABLE answers (
    task_id bigint NOT NULL,
    -- SHA-256 of the request, and which of equal requests of one attempt it was, from 0.
    request bytea NOT NULL,
    turn    smallint NOT NULL,
    answer  jsonb NOT NULL,
    -- Whether its tokens are part of the task's usage by now.
    counted boolean NOT NULL DEFAULT false,
    PRIMARY KEY (task_id, request, turn)
);
