-- Keys that were made on the command line. Rows are never deleted: that one was ever made closes the service for good.
CREATE TABLE api_keys (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The public part of the token, by which it is looked up.
    prefix       text NOT NULL UNIQUE,
    name         text NOT NULL,
    -- SHA-256 of the whole token.
    digest       bytea NOT NULL,
    scope        text NOT NULL CHECK (scope IN ('read', 'submit', 'admin')),
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    expires_at   timestamptz,
    -- In the future: the key was replaced, and works until then.
    revoked_at   timestamptz
);
CREATE UNIQUE INDEX api_keys_in_force ON api_keys (name) WHERE revoked_at IS NULL;

-- Browsers that are logged in, each with one key.
CREATE TABLE sessions (
    -- SHA-256 of what the cookie holds.
    digest     bytea PRIMARY KEY,
    key_name   text NOT NULL,
    -- Empty: a key from API_KEYS.
    key_prefix text NOT NULL,
    -- Ties the session to the key's secret without telling anything of it.
    proof      bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX sessions_by_age ON sessions (expires_at);

-- Who did what that only administrators may, and who logged in. Never secrets, never bodies.
CREATE TABLE audit (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at   timestamptz NOT NULL DEFAULT now(),
    -- A key's name; 'open': without keys; 'cli': the command line; empty: nobody known.
    who          text NOT NULL,
    key_prefix   text NOT NULL DEFAULT '',
    -- Method and route, or command.
    action       text NOT NULL,
    object       text NOT NULL DEFAULT '',
    request_id   text,
    client       text,
    -- ATTEMPTED: it began, and the process died before it could say how it ended.
    outcome      text NOT NULL CHECK (outcome IN ('ATTEMPTED', 'DONE', 'REFUSED', 'FAILED')),
    status_code  integer
);
CREATE INDEX audit_by_age ON audit (created_at);
CREATE INDEX audit_by_who ON audit (who, id);
