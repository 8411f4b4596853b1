"""Pressroom under a load: tasks are stored and wait in their queue first, then it is let go."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import psycopg
import redis
from psycopg import sql

from jobs.store.migrate import migrate
from tests.benchmarks.bench import Bench
from tests.support.instance import Instance, running
from tests.support.waiting import wait_until

_BATCH = 10_000
_MIGRATED = "bench_migrated"  # what all others begin as
_SUSPENDED = "rq:suspended"  # what `rq suspend` sets
_LIMIT_SECONDS = 90.0
_LOOK_SECONDS = 0.3  # between looks whether all have ended: each costs the database something
_SPAN = """
SELECT count(*), extract(epoch FROM max(completed_at) - min(started_at))::float8 FROM tasks
WHERE status = 'COMPLETED' AND id > %s
"""
_SIZE = "SELECT sum(pg_total_relation_size(relid))::float8 FROM pg_stat_user_tables"
_OPEN = "SELECT EXISTS (SELECT FROM tasks WHERE status IN ('BLOCKED', 'PENDING', 'PROCESSING', 'RETRYING'))"


class Running:
    """An instance on the benchmark's servers."""

    def __init__(self, instance: Instance, url: str, redis_url: str) -> None:
        self.instance = instance
        self.url = url
        self.redis_url = redis_url
        self.redis = redis.Redis.from_url(redis_url)
        self.database = psycopg.connect(url, autocommit=True)

    def close(self) -> None:
        """Let go of the servers."""
        self.redis.close()
        self.database.close()

    def one(self, query: str, *parameters: Any) -> Any:
        """The first column of the only row."""
        row = self.database.execute(query.encode(), parameters).fetchone()
        assert row
        return row[0]

    def suspend(self) -> None:
        """As `rq suspend`: workers take nothing new."""
        self.redis.set(_SUSPENDED, 1)

    def resume(self) -> None:
        """As `rq resume`."""
        self.redis.delete(_SUSPENDED)

    def submit(self, count: int, **task: Any) -> None:
        """So many equal tasks, over HTTP."""
        for start in range(0, count, _BATCH):
            self.instance.submit_batch([task] * min(_BATCH, count - start))

    def workers(self, *others: int) -> list[psutil.Process]:
        """Its worker process, and others by their ids, with what they started."""
        found = [self.instance.find("jobs.worker"), *map(psutil.Process, others)]
        return found + [child for one in found for child in one.children(recursive=True)]

    def throughput(self, count: int, workers: list[psutil.Process], **task: Any) -> dict[str, float]:
        """Perform so many tasks, from the first claim to the last recorded outcome."""
        last = self.one("SELECT coalesce(max(id), 0) FROM tasks")
        size = self.one(_SIZE)
        self.suspend()
        self.submit(count, **task)
        spent = cpu_seconds(workers)
        self.resume()
        wait_until(lambda: not self.one(_OPEN), f"{count} tasks have ended", _LIMIT_SECONDS, _LOOK_SECONDS)
        spent = cpu_seconds(workers) - spent
        row = self.database.execute(_SPAN, (last,)).fetchone()
        assert row
        done, seconds = row
        assert done == count, f"{count - done} tasks did not complete:\n{self.instance.log()}"
        memory = sum(worker.memory_info().rss for worker in workers) / 2**20
        return {
            "tasks/s": done / seconds,
            "worker CPU a task [ms]": 1000 * spent / done,
            "worker memory [MB]": memory,
            "on disk a task [bytes]": (self.one(_SIZE) - size) / done,
        }


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """Spent by them so far."""
    return float(sum(sum(process.cpu_times()[:2]) for process in processes))


@contextmanager
def pressroom(bench: Bench, database: str = "", *, at_work: bool = True, **settings: Any) -> Iterator[Running]:
    """An instance on a fresh database, or on one that is there; Redis is emptied before.

    Args:
        at_work: False where the worker must not begin with what waits in the database, which Redis knows of, and keeps.
    """
    name = database or "bench"
    with redis.Redis.from_url(bench.redis_url) as client:
        if at_work:
            client.flushall()
        else:
            client.set(_SUSPENDED, 1)
    if not database:
        create_database(bench, name)
    chosen = {
        "DATABASE_URL": database_url(bench, name), "REDIS_URL": bench.redis_url, "LLM_BASE_URL": bench.endpoint,
        "LOG_LEVEL": "WARNING", "APP_ENV": "development",
        "QUEUE_SHARES": "high=1.0,default=1.0,low=1.0", "HANDLER_MODULES": "tests.benchmarks.handlers",
    }  # fmt: skip
    with running(bench.data_dir / "instance", **{**chosen, **settings}) as instance:
        wait_until(lambda: instance.http.get("/health/workers").json()["workers"], "a worker is there")
        started = Running(instance, str(chosen["DATABASE_URL"]), bench.redis_url)
        try:
            yield started
        finally:
            started.close()
            instance.http.close()


def database_url(bench: Bench, name: str) -> str:
    """Of another database on the benchmark's server."""
    return f"{bench.postgres_url.rpartition('/')[0]}/{name}"


def exists(bench: Bench, name: str) -> bool:
    """Whether the benchmark's server has it."""
    with psycopg.connect(database_url(bench, "postgres")) as connection:
        return bool(connection.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchall())


def create_database(bench: Bench, name: str) -> None:
    """An empty one, instead of any there was."""
    with psycopg.connect(database_url(bench, "postgres"), autocommit=True) as connection:
        if not exists(bench, _MIGRATED):
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_MIGRATED)))
            migrate(database_url(bench, _MIGRATED))
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(_MIGRATED))
        connection.execute(copy)
