-- Clean-up asks whether anybody still waits for, or works on the result of, a task that has ended.
CREATE INDEX task_parents_by_parent ON task_parents (parent_id);

-- What is known of a topic. `version` counts the consolidations that made it.
CREATE TABLE memories (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic      text NOT NULL UNIQUE,
    summary    text NOT NULL,
    facts      jsonb NOT NULL DEFAULT '[]',
    version    integer NOT NULL,
    task_id    bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- Vectors need the extension pgvector, which a server may lack, or a role may not be allowed to create. So the
-- table is made here where that is possible, and else as soon as it is: this is asked whenever vectors are needed.
-- Says whether the table is there.
CREATE FUNCTION prepare_embeddings() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF to_regclass('embeddings') IS NOT NULL THEN
        RETURN true;
    END IF;
    PERFORM pg_advisory_xact_lock(1886545267);  -- the lock of the migrations: one at a time
    BEGIN
        CREATE EXTENSION IF NOT EXISTS vector;
    EXCEPTION WHEN OTHERS THEN
        NULL;  -- not installed, or not allowed
    END;
    -- Before 0.8, searches within a part of the vectors found too little.
    IF NOT EXISTS (SELECT FROM pg_extension
                   WHERE extname = 'vector' AND string_to_array(extversion, '.')::int[] >= '{0,8}') THEN
        RETURN false;
    END IF;
    -- One row a text. Of different models, and of one model at different dimensions, vectors cannot be compared.
    CREATE TABLE IF NOT EXISTS embeddings (
        collection  text NOT NULL,
        model       text NOT NULL,
        dimensions  integer NOT NULL,
        -- The caller's, or a hash of the text.
        external_id text NOT NULL,
        text        text NOT NULL,
        metadata    jsonb NOT NULL,
        vector      vector NOT NULL,
        task_id     bigint NOT NULL,
        created_at  timestamptz NOT NULL DEFAULT now(),
        updated_at  timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (collection, model, dimensions, external_id),
        CHECK (vector_dims(vector) = dimensions)
    );
    RETURN true;
END $$;

-- An HNSW index over the vectors of so many dimensions, made before the first of them is stored, when that takes no
-- time. Half precision: it takes half the room, and up to 4,000 dimensions, which is the most that pgvector indexes.
CREATE FUNCTION index_embeddings(wanted integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF wanted <= 4000 AND to_regclass('embeddings_nearest_' || wanted) IS NULL THEN
        PERFORM pg_advisory_xact_lock(1886545267);
        EXECUTE format(
            'CREATE INDEX IF NOT EXISTS embeddings_nearest_%1$s ON embeddings'
            ' USING hnsw ((vector::halfvec(%1$s)) halfvec_cosine_ops) WHERE dimensions = %1$s', wanted);
    END IF;
END $$;

SELECT prepare_embeddings();
