"""A database as after months of use, made by SQL: a million ended tasks would take an hour to perform."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from jobs.store.queries import QUERIES
from tests.benchmarks.bench import Bench
from tests.benchmarks.pressroom import create_database, database_url

_TABLES = ("ends", "durations", "tokens")
_BATCH_TASKS = 5_000
# Types, priorities, states and accounts in all their combinations; a quarter of the tasks is one account's.
_COLUMNS = """
       (ARRAY['text_generation', 'content_generation', 'daily_life', 'embedding', 'cleanup'])[1 + n / 10 %% 5],
       'Write something about the subject number ' || n, 'model-' || n %% 4, 1 + n %% 10,
       CASE WHEN n %% 10 >= 7 THEN 'high' WHEN n %% 10 >= 3 THEN 'default' ELSE 'low' END,
       CASE n %% 4 WHEN 0 THEN NULL WHEN 1 THEN 1 ELSE 1 + (n::bigint * 7919) %% 500 END,
       'coroutine:model-' || n %% 4"""
_STATUS = "CASE WHEN n / 50 %% 30 = 0 THEN 'FAILED' WHEN n / 50 %% 97 = 0 THEN 'CANCELLED' ELSE 'COMPLETED' END"
_TIME = "now() - interval '30 days' * (1 - n / %(total)s::float8)"
_ENDED = f"""
INSERT INTO tasks (task_type, prompt, model, priority, queue, account_id, pool, status, attempt, max_retries,
                   timeout_seconds, retry, result, error, usage, batch_id, created_at, ready_at, started_at,
                   completed_at, waited_seconds, run_seconds)
SELECT {_COLUMNS}, status, 1, 3, 300, '{{}}',
       CASE WHEN status = 'COMPLETED' THEN jsonb_build_object('text', repeat(md5(n::text), 15)) END,
       CASE WHEN status = 'FAILED' THEN jsonb_build_object('code', 'code_' || n / 7 %% 6) END,
       CASE WHEN status = 'COMPLETED' THEN
            jsonb_build_object('prompt_tokens', 100, 'completion_tokens', 500, 'total_tokens', 600) END,
       CASE WHEN n <= %(batched)s THEN 1 END, at, at, at, at, exp(random_normal() * 1.2 - 3),
       CASE WHEN status <> 'CANCELLED' THEN exp(random_normal() + 1) END
FROM generate_series(1, %(total)s) AS n, LATERAL (SELECT {_STATUS}, {_TIME}) AS t (status, at)
"""
_EVENTS = f"""
INSERT INTO task_events (task_id, at, from_status, to_status, attempt)
SELECT n, {_TIME}, step.*, 1 FROM generate_series(1, %(total)s) AS n, LATERAL (VALUES
    (NULL, 'PENDING'), ('PENDING', 'PROCESSING'), ('PROCESSING', {_STATUS})) AS step (from_status, to_status)
"""
_MIXED = f"""
WITH made AS (
    INSERT INTO tasks (task_type, prompt, model, priority, queue, account_id, pool, status, max_retries,
                       timeout_seconds, retry, announced_at)
    SELECT {_COLUMNS}, 'PENDING', 3, 300, '{{}}', now() FROM generate_series(1, %(count)s) AS n
    RETURNING id, queue, pool, owner, status
), logged AS (
    INSERT INTO task_events (task_id, to_status, attempt) SELECT id, 'PENDING', 0 FROM made
)
SELECT * FROM made
"""
_INDEXES = """
SELECT indexname, indexdef FROM pg_indexes
WHERE tablename IN ('tasks', 'task_events') AND indexname NOT IN (SELECT conname FROM pg_constraint)
"""
_WAITING = """
INSERT INTO tasks (task_type, model, status, priority, queue, max_retries, timeout_seconds, retry, announced_at)
SELECT 'bench_noop', 'm', 'PENDING', 5, 'default', 3, 300, '{"strategy": "fixed"}', now() FROM generate_series(1, %s)
RETURNING id, queue, pool, owner, status
"""


def filled(bench: Bench, name: str, total: int) -> str:
    """A database with so many ended tasks of the last 30 days; returns its URL."""
    create_database(bench, name)
    url = database_url(bench, name)
    numbers = {"total": total, "batched": min(_BATCH_TASKS, total // 10)}
    with psycopg.connect(url, autocommit=True) as connection, ThreadPoolExecutor(os.cpu_count()) as threads:
        connection.execute("INSERT INTO batches (total, completed_at) VALUES (%s, now())", (_BATCH_TASKS,))
        # A full table takes its indexes several times faster than indexes take its rows.
        indexes = connection.execute(_INDEXES).fetchall()
        for index, _ in indexes:
            connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(index)))
        list(threads.map(partial(_run, url, numbers), (_ENDED, _EVENTS)))
        counted = threads.submit(_count, url)
        list(threads.map(partial(_run, url, None), (definition for _, definition in indexes)))
        counted.result()
        list(threads.map(partial(_run, url, None), ("VACUUM ANALYZE tasks", "VACUUM ANALYZE task_events")))
        connection.execute("ANALYZE")
    return url


def _run(url: str, parameters: Mapping[str, Any] | None, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode(), parameters)


def _count(url: str) -> None:
    """What was counted when they ended."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("SELECT array_agg(id) FROM tasks").fetchone()
        connection.execute(QUERIES["count_ended"], {"ids": row and row[0]})
        for table in _TABLES:
            left = sql.SQL("SELECT FROM {} LIMIT 1").format(sql.Identifier(f"{table}_new"))
            while connection.execute(left).fetchall():
                connection.execute(QUERIES[f"fold_{table}"], {"limit": 10_000_000})


def wait_in(url: str, count: int) -> list[dict[str, Any]]:
    """As many tasks of all kinds as wait for workers, submitted just now; returns what is to be announced."""
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection:
        return connection.execute(_MIXED, {"count": count}).fetchall()


def add_waiting(connection: "psycopg.Connection[tuple[object, ...]]", count: int) -> list[dict[str, object]]:
    """So many tasks that do nothing, stored as waiting; returns what is to be announced."""
    found = connection.execute(_WAITING, (count,)).fetchall()
    return [dict(zip(("id", "queue", "pool", "owner", "status"), row, strict=True)) for row in found]
