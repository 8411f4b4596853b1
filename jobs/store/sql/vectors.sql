-- name: prepare_embeddings
-- Whether vectors can be stored here; see migration 0007.
SELECT prepare_embeddings() AS ready

-- name: index_embeddings
-- In a transaction of its own: it waits for whoever writes.
SELECT index_embeddings(%(dimensions)s)

-- name: store_embeddings
-- In one order, so that two of these never wait for each other.
INSERT INTO embeddings (collection, model, dimensions, external_id, text, metadata, vector, task_id)
SELECT %(collection)s, %(model)s, %(dimensions)s, item.id, item.text, item.metadata, item.vector::vector, %(task_id)s
FROM unnest(%(ids)s::text[], %(texts)s::text[], %(metadata)s::jsonb[], %(vectors)s::text[])
    AS item (id, text, metadata, vector)
ORDER BY item.id
ON CONFLICT (collection, model, dimensions, external_id) DO UPDATE
SET text = excluded.text, metadata = excluded.metadata, vector = excluded.vector, task_id = excluded.task_id,
    updated_at = now()

-- name: embedded_by
SELECT external_id, model, dimensions FROM embeddings
WHERE collection = %(collection)s AND external_id = ANY (%(ids)s) AND task_id = %(task_id)s

-- name: count_embeddings
SELECT count(*) AS count FROM (
    SELECT FROM embeddings
    WHERE collection = %(collection)s AND model = %(model)s AND dimensions = %(dimensions)s LIMIT %(most)s) AS counted

-- name: search_widely
-- For this transaction: take the order from the index, whatever the statistics say; look at more candidates than
-- usual, and go on looking until enough of them fit.
SELECT set_config('enable_sort', 'off', true), set_config('hnsw.ef_search', '100', true),
       set_config('hnsw.iterative_scan', 'strict_order', true)

-- name: nearest_embeddings
SELECT external_id AS id, text, collection, metadata, 1 - (vector <=> %(vector)s::vector) AS score, task_id
FROM embeddings
WHERE collection = %(collection)s AND model = %(model)s AND dimensions = %(dimensions)s
ORDER BY vector <=> %(vector)s::vector LIMIT %(limit)s

-- name: any_embedding
SELECT model, dimensions FROM embeddings WHERE collection = %(collection)s LIMIT 1

-- name: remove_embeddings
WITH removed AS (DELETE FROM embeddings WHERE collection = %(collection)s RETURNING 1)
SELECT count(*) AS removed FROM removed
