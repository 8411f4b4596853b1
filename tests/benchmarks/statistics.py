"""Times the numbers at a million tasks: `python -m tests.benchmarks.statistics` (a server of its own, some minutes).

Prints the median and the slowest of the answers of every endpoint, of what counting costs a task, and of folding.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import psycopg

from api import create_app
from jobs import logs, settings
from jobs.store.queries import QUERIES
from tests.support.instance import fresh_directory
from tests.support.servers import serving

_PENDING, _RUNNING = 100_000, 200
_FILL = """
INSERT INTO tasks (task_type, prompt, model, status, priority, queue, attempt, max_retries, timeout_seconds, retry,
                   error, usage, account_id, created_at, ready_at, announced_at, started_at, completed_at,
                   waited_seconds, run_seconds, worker_id)
SELECT (ARRAY['text_generation', 'content_generation', 'daily_life', 'embedding', 'cleanup'])[1 + n % 5],
       'prompt ' || n, 'model-' || n % 4, status, 5, (ARRAY['high', 'default', 'low'])[1 + n % 3], 1, 3, 300, '{{}}',
       CASE WHEN status = 'FAILED' THEN jsonb_build_object('code', 'code_' || n / 7 % 6) END,
       CASE WHEN status = 'COMPLETED' THEN
            jsonb_build_object('prompt_tokens', 100, 'completion_tokens', 500, 'total_tokens', 600) END,
       1 + (n::bigint * 7919) % 500, at, at,
       CASE WHEN status = 'PENDING' THEN at END, CASE WHEN status <> 'PENDING' THEN at END,
       CASE WHEN status IN ('COMPLETED', 'FAILED', 'CANCELLED') THEN at END,
       CASE WHEN status <> 'PENDING' THEN exp(random_normal() * 1.2 - 3) END,
       CASE WHEN status IN ('COMPLETED', 'FAILED') THEN exp(random_normal() + 1) END,
       CASE WHEN status = 'PROCESSING' THEN 1 END
FROM generate_series(1, {total}) AS n,
     LATERAL (SELECT CASE WHEN n > {total} - {running} THEN 'PROCESSING'
                          WHEN n > {total} - {running} - {pending} THEN 'PENDING' WHEN n % 30 = 0 THEN 'FAILED'
                          WHEN n % 97 = 0 THEN 'CANCELLED' ELSE 'COMPLETED' END) AS s (status),
     LATERAL (SELECT now() - interval '30 days' * greatest(0, 1 - n / ({total}.0 - {pending} - {running}))) AS t (at)
"""
_GROUP = 100  # tasks that end in one transaction
_COUNTED = 20_000
_PATHS = (
    "/metrics",
    "/api/v1/stats/realtime",
    "/api/v1/stats/tasks",
    "/api/v1/stats/tasks?hours=744",
    "/api/v1/stats/tasks?hours=744&task_type=embedding",
    "/api/v1/stats/trends",
    "/api/v1/stats/trends?hours=168",
    "/api/v1/stats/costs",
    "/api/v1/stats/costs?days=1",
)


def fill(url: str, total: int) -> None:
    """So many tasks over the last 30 days, of which the newest wait and run; the ended ones are counted."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_FILL.format(total=total, pending=_PENDING, running=_RUNNING))
        everything = connection.execute("SELECT array_agg(id) FROM tasks WHERE completed_at IS NOT NULL").fetchone()
        connection.execute(QUERIES["count_ended"], {"ids": everything and everything[0]})
        while any(connection.execute(f"SELECT FROM {table}_new LIMIT 1").fetchall() for table in _TABLES):
            for table in _TABLES:
                connection.execute(QUERIES[f"fold_{table}"], {"limit": 10_000_000})
        connection.execute("VACUUM ANALYZE")


_TABLES = ("ends", "durations", "tokens")


def timed(what: str, act: Callable[[], object], times: int = 25) -> None:
    """Print how long `act` takes."""
    act()
    took = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        took.append(1000 * (time.perf_counter() - began))
    print(f"{what:<55} {statistics.median(took):8.1f} ms median {max(took):8.1f} ms at most")


def counting(url: str) -> None:
    """What the statement that counts ended tasks costs, in groups as a worker ends them, and what folding costs."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT id FROM tasks WHERE completed_at IS NOT NULL ORDER BY id DESC LIMIT %s", (_COUNTED,)
        ).fetchall()
        ids = [row[0] for row in found]
        groups = iter([ids[start : start + _GROUP] for start in range(0, len(ids), _GROUP)])
        timed(
            f"counting {_GROUP} ended tasks",
            lambda: connection.execute(QUERIES["count_ended"], {"ids": next(groups)}),
            len(ids) // _GROUP - 1,
        )
        for table in _TABLES:
            rows = connection.execute(f"SELECT count(*) FROM {table}_new").fetchone()
            began = time.perf_counter()
            connection.execute(QUERIES[f"fold_{table}"], {"limit": 10_000_000})
            print(f"folding {rows and rows[0]} rows of {table}: {1000 * (time.perf_counter() - began):.1f} ms")
        connection.rollback()


def main() -> None:
    """Fill, and time everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    total = parser.parse_args().tasks
    with fresh_directory() as directory, serving(directory, "", "") as servers, servers.database() as url:
        began = time.perf_counter()
        fill(url, total)
        load = f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        print(f"{total} tasks in {time.perf_counter() - began:.0f} s; the machine's load is {load}")
        configured = replace(settings.load(), database_url=url, redis_url=servers.redis_url, log_level="WARNING")
        logs.configure(configured, "api")
        app = create_app(configured)
        client = app.test_client()
        for path in _PATHS:
            timed(path, lambda path=path: client.get(path).get_data())  # type: ignore[misc]
        app.extensions["pressroom"].database.close()
        counting(url)


if __name__ == "__main__":
    main()
