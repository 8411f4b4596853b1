"""A database as after months of use, made by SQL: a million ended tasks would take an hour to perform."""

import psycopg
from psycopg import sql

from jobs.store.migrate import migrate
from jobs.store.queries import QUERIES
from tests.benchmarks.bench import Bench
from tests.benchmarks.pressroom import create_database, database_url

_TABLES = ("ends", "durations", "tokens")
_BATCH_TASKS = 5_000
_FILL = """
INSERT INTO tasks (task_type, prompt, model, status, priority, queue, attempt, max_retries, timeout_seconds, retry,
                   result, error, usage, account_id, batch_id, created_at, ready_at, announced_at, started_at,
                   completed_at, waited_seconds, run_seconds, pool)
SELECT (ARRAY['text_generation', 'content_generation', 'daily_life', 'embedding', 'cleanup'])[1 + n %% 5],
       'Write something about the subject number ' || n, 'model-' || n %% 4, status, 1 + n %% 10,
       CASE WHEN n %% 10 >= 7 THEN 'high' WHEN n %% 10 >= 3 THEN 'default' ELSE 'low' END, 1, 3, 300, '{}',
       CASE WHEN status = 'COMPLETED' THEN jsonb_build_object('text', repeat(md5(n::text), 15)) END,
       CASE WHEN status = 'FAILED' THEN jsonb_build_object('code', 'code_' || n / 7 %% 6) END,
       CASE WHEN status = 'COMPLETED' THEN
            jsonb_build_object('prompt_tokens', 100, 'completion_tokens', 500, 'total_tokens', 600) END,
       1 + (n::bigint * 7919) %% 500, CASE WHEN n <= %(batched)s THEN 1 END, at, at,
       CASE WHEN status = 'PENDING' THEN at END, CASE WHEN status <> 'PENDING' THEN at END,
       CASE WHEN status IN ('COMPLETED', 'FAILED', 'CANCELLED') THEN at END,
       CASE WHEN status <> 'PENDING' THEN exp(random_normal() * 1.2 - 3) END,
       CASE WHEN status IN ('COMPLETED', 'FAILED') THEN exp(random_normal() + 1) END, 'coroutine:model-' || n %% 4
FROM generate_series(1, %(total)s) AS n,
     LATERAL (SELECT CASE WHEN n > %(total)s - %(pending)s THEN 'PENDING' WHEN n %% 30 = 0 THEN 'FAILED'
                          WHEN n %% 97 = 0 THEN 'CANCELLED' ELSE 'COMPLETED' END) AS s (status),
     LATERAL (SELECT now() - interval '30 days' * greatest(0, 1 - n / (%(total)s::float8 - %(pending)s))) AS t (at)
"""
_EVENTS = """
INSERT INTO task_events (task_id, at, from_status, to_status, attempt)
SELECT id, created_at, step.*, 1 FROM tasks, LATERAL (VALUES
    (NULL, 'PENDING'), ('PENDING', 'PROCESSING'), ('PROCESSING', status)) AS step (from_status, to_status)
WHERE completed_at IS NOT NULL OR to_status = 'PENDING'
"""
_WAITING = """
INSERT INTO tasks (task_type, model, status, priority, queue, max_retries, timeout_seconds, retry, announced_at)
SELECT 'bench_noop', 'm', 'PENDING', 5, 'default', 3, 300, '{"strategy": "fixed"}', now() FROM generate_series(1, %s)
RETURNING id, queue, pool, owner, status
"""


def filled(bench: Bench, name: str, total: int, pending: int = 0) -> str:
    """A database with so many tasks of the last 30 days, of which the newest wait; returns its URL."""
    create_database(bench, name)
    url = database_url(bench, name)
    migrate(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("INSERT INTO batches (total, completed_at) VALUES (%s, now())", (_BATCH_TASKS,))
        numbers = {"total": total, "pending": pending, "batched": min(_BATCH_TASKS, total // 10)}
        connection.execute(_FILL, numbers)
        connection.execute(_EVENTS)
        row = connection.execute("SELECT array_agg(id) FROM tasks WHERE completed_at IS NOT NULL").fetchone()
        connection.execute(QUERIES["count_ended"], {"ids": row and row[0]})
        for table in _TABLES:
            left = sql.SQL("SELECT FROM {} LIMIT 1").format(sql.Identifier(f"{table}_new"))
            while connection.execute(left).fetchall():
                connection.execute(QUERIES[f"fold_{table}"], {"limit": 10_000_000})
        connection.execute("VACUUM ANALYZE")
    return url


def add_waiting(connection: "psycopg.Connection[tuple[object, ...]]", count: int) -> list[dict[str, object]]:
    """So many tasks that do nothing, stored as waiting; returns what is to be announced."""
    found = connection.execute(_WAITING, (count,)).fetchall()
    return [dict(zip(("id", "queue", "pool", "owner", "status"), row, strict=True)) for row in found]
