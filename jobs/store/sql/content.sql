-- name: insert_account
INSERT INTO accounts (id, name, profile)
VALUES (coalesce(%(id)s, nextval(pg_get_serial_sequence('accounts', 'id'))), %(name)s, %(profile)s)
ON CONFLICT (id) DO NOTHING RETURNING *

-- name: lift_account_ids
-- After a caller chose an id, the sequence goes on behind the largest.
SELECT setval('accounts_id_seq', greatest(max(id), (SELECT last_value FROM accounts_id_seq))) FROM accounts

-- name: get_account
SELECT * FROM accounts WHERE id = %(id)s

-- name: get_accounts
SELECT * FROM accounts WHERE id = ANY (%(ids)s)

-- name: update_account
UPDATE accounts
SET name = coalesce(%(name)s, name), profile = coalesce(%(profile)s, profile), updated_at = now()
WHERE id = %(id)s RETURNING *

-- name: delete_account
-- Not while it has contents or tasks to come.
DELETE FROM accounts AS a
WHERE id = %(id)s AND NOT EXISTS (SELECT FROM contents WHERE account_id = a.id)
  AND NOT EXISTS (SELECT FROM tasks WHERE account_id = a.id
                  AND status IN ('BLOCKED', 'PENDING', 'PROCESSING', 'RETRYING'))
RETURNING id

-- name: make_contents
-- In the transaction that completes the tasks.
INSERT INTO contents (account_id, task_id, title, body, summary, category, topic, review_status)
SELECT account_id, id, result ->> 'title', result ->> 'body', result ->> 'summary',
       result ->> 'category', result ->> 'topic',
       CASE WHEN coalesce((input ->> 'auto_approve')::boolean, true) THEN 'APPROVED' ELSE 'PENDING_REVIEW' END
FROM tasks WHERE id = ANY (%(ids)s) ORDER BY id

-- name: get_content
SELECT * FROM contents WHERE id = %(id)s

-- name: lock_content
SELECT * FROM contents WHERE id = %(id)s FOR UPDATE

-- name: review_content
UPDATE contents
SET review_status = %(status)s, review_reason = %(reason)s, reviewed_by = %(who)s, reviewed_at = now(),
    updated_at = now()
WHERE id = %(id)s RETURNING *

-- name: edit_content
UPDATE contents
SET title = %(title)s, body = %(body)s, summary = %(summary)s, category = %(category)s, topic = %(topic)s,
    updated_at = now()
WHERE id = %(id)s RETURNING *

-- name: log_edit
INSERT INTO content_edits (content_id, who, before, after) VALUES (%(id)s, %(who)s, %(before)s, %(after)s)

-- name: content_edits
SELECT id, at, who, before, after FROM content_edits WHERE content_id = %(id)s ORDER BY id

-- name: keep_daily_lives
-- In the transaction that completes the tasks. The last of several for one date and account wins.
INSERT INTO daily_lives (date, account_id, task_id, schedule_items, micro_experiences)
SELECT DISTINCT ON (1, 2) (result ->> 'date')::date, coalesce(account_id, 0), id,
       result -> 'schedule_items', result -> 'micro_experiences'
FROM tasks WHERE id = ANY (%(ids)s) ORDER BY 1, 2, id DESC
ON CONFLICT (date, account_id) DO UPDATE
SET task_id = excluded.task_id, schedule_items = excluded.schedule_items,
    micro_experiences = excluded.micro_experiences, updated_at = now()

-- name: daily_life_version
SELECT task_id FROM daily_lives WHERE date = %(date)s AND account_id = %(account_id)s

-- name: get_daily_life
SELECT * FROM daily_lives WHERE date = %(date)s AND account_id = %(account_id)s

-- name: has_daily_life
SELECT EXISTS (SELECT FROM daily_lives WHERE date = (now() AT TIME ZONE %(zone)s)::date) AS found

-- name: keep_memories
-- In the transaction that completes the tasks. Each knew a version of its topic's memory and replaces that one. Where
-- another came in between, or several end together, nothing is lost: both stand, until the next consolidation.
WITH made AS (
    SELECT result ->> 'topic' AS topic, min((result ->> 'known_version')::int) AS known, max(id) AS task_id,
           string_agg(result ->> 'summary', E'\n\n' ORDER BY id) AS summary,
           jsonb_path_query_array(jsonb_agg(result -> 'facts' ORDER BY id), '$[*][*]') AS facts
    FROM tasks WHERE id = ANY (%(ids)s) GROUP BY 1
)
INSERT INTO memories AS m (topic, summary, facts, version, task_id)
SELECT topic, summary, facts, known + 1, task_id FROM made ORDER BY topic
ON CONFLICT (topic) DO UPDATE
SET summary = CASE WHEN excluded.version > m.version THEN excluded.summary
                   ELSE m.summary || E'\n\n' || excluded.summary END,
    facts = CASE WHEN excluded.version > m.version THEN excluded.facts ELSE m.facts || excluded.facts END,
    version = m.version + 1, task_id = excluded.task_id, updated_at = now()
-- Not what is known already: a result that was given again.
WHERE excluded.version > m.version OR position(excluded.summary IN m.summary) = 0

-- name: known_of_topic
SELECT summary, facts, version FROM memories WHERE topic = %(topic)s

-- name: get_memory
SELECT * FROM memories WHERE id = %(id)s

-- name: waiting_beside
-- What waits for review next to a content.
SELECT (SELECT max(id) FROM contents WHERE review_status = 'PENDING_REVIEW' AND id < %(id)s) AS older,
       (SELECT min(id) FROM contents WHERE review_status = 'PENDING_REVIEW' AND id > %(id)s) AS newer
