-- name: living_keys
-- As one row: the keys that work now, and whether there ever was one.
SELECT EXISTS (SELECT FROM api_keys) AS ever, coalesce((
    SELECT jsonb_agg(jsonb_build_object(
               'id', id, 'name', name, 'prefix', prefix, 'digest', encode(digest, 'hex'), 'scope', scope,
               'seconds', extract(epoch FROM least(expires_at, revoked_at) - now())))
    FROM api_keys WHERE coalesce(revoked_at > now(), true) AND coalesce(expires_at > now(), true)), '[]') AS keys

-- name: note_key_used
-- Once a minute, whichever process comes first.
UPDATE api_keys SET last_used_at = now()
WHERE id = %(id)s AND coalesce(last_used_at < now() - interval '1 minute', true)

-- name: list_keys
SELECT prefix, name, scope, created_at, last_used_at, expires_at, revoked_at,
       CASE WHEN revoked_at <= now() THEN 'revoked' WHEN expires_at <= now() THEN 'expired'
            WHEN revoked_at IS NOT NULL THEN 'replaced' ELSE 'in force' END AS state
FROM api_keys ORDER BY id

-- name: bury_expired_key
-- So that its name is free again.
UPDATE api_keys SET revoked_at = expires_at
WHERE name = %(name)s AND revoked_at IS NULL AND expires_at <= now()

-- name: insert_key
INSERT INTO api_keys (prefix, name, digest, scope, expires_at)
VALUES (%(prefix)s, %(name)s, %(digest)s, %(scope)s, now() + %(seconds)s * interval '1 second')
ON CONFLICT (name) WHERE revoked_at IS NULL DO NOTHING RETURNING prefix, expires_at

-- name: revoke_keys
-- Those in force under a name, and the replaced ones that still work; or the one with a prefix.
UPDATE api_keys SET revoked_at = now()
WHERE (name = %(which)s OR prefix = %(which)s) AND coalesce(revoked_at > now(), true)
RETURNING prefix, name

-- name: replace_key
-- The key in force under a name works for so many more seconds; with how long keys of this kind live.
UPDATE api_keys SET revoked_at = now() + %(overlap)s * interval '1 second'
WHERE name = %(name)s AND revoked_at IS NULL AND coalesce(expires_at > now(), true)
RETURNING scope, extract(epoch FROM expires_at - created_at)::float8 AS seconds

-- name: keep_session
INSERT INTO sessions (digest, key_name, key_prefix, proof, expires_at)
VALUES (%(digest)s, %(name)s, %(prefix)s, %(proof)s, now() + %(seconds)s * interval '1 second')

-- name: get_session
SELECT key_name, key_prefix, proof FROM sessions WHERE digest = %(digest)s AND expires_at > now()

-- name: end_session
DELETE FROM sessions WHERE digest = %(digest)s

-- name: audit
INSERT INTO audit (who, key_prefix, action, object, request_id, client, outcome, status_code)
VALUES (%(who)s, %(key_prefix)s, %(action)s, %(object)s, %(request_id)s, %(client)s, %(outcome)s, %(status_code)s)
RETURNING id

-- name: audit_outcome
UPDATE audit SET outcome = %(outcome)s, status_code = %(status_code)s, object = coalesce(%(object)s, object)
WHERE id = %(id)s
