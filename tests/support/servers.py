"""PostgreSQL and Redis for tests: the embedded ones, started once, or those in DATABASE_URL and REDIS_URL."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg
import redis

from deploy import embedded
from jobs.settings import embedded_urls
from jobs.store.migrate import migrate
from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Servers:
    """Where they are; `database_url` names a migrated template that nobody connects to."""

    database_url: str
    redis_url: str

    def url_of(self, database: str) -> str:
        """The URL of another database on the same server."""
        return f"{self.database_url.rpartition('/')[0]}/{database}"

    @contextmanager
    def database(self, template: str | None = None) -> Iterator[str]:
        """A fresh database: a copy of the migrated template, or of another (`template0`: empty)."""
        name = f"test_{uuid4().hex[:12]}"
        source = template or self.database_url.rpartition("/")[2]
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{source}"')
        try:
            yield self.url_of(name)
        finally:
            with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    @contextmanager
    def redis(self) -> Iterator[str]:
        """An empty Redis database. One that holds anything is never touched."""
        client = redis.Redis.from_url(self.redis_url)
        assert client.dbsize() == 0, "the Redis in REDIS_URL is not empty; tests will not flush it"
        try:
            yield self.redis_url
        finally:
            client.flushdb()
            client.close()


@contextmanager
def serving(data_dir: Path, database_url: str, redis_url: str) -> Iterator[Servers]:
    """Servers for the session; URLs that are given are used, what is missing is started."""
    with ExitStack() as stack:
        if not redis_url:
            stack.enter_context(_started(embedded.prepare_redis(data_dir, "--appendonly", "no")))
            wait_until(lambda: embedded.redis_answers(data_dir), "Redis answers")
            redis_url = embedded_urls(data_dir)[1]
        if not database_url:
            options = {"fsync": "off", "max_connections": "300"}
            stack.enter_context(_started(embedded.prepare_postgres(data_dir, options)))
            wait_until(lambda: embedded.postgres_answers(data_dir), "PostgreSQL answers")
            database_url = embedded_urls(data_dir)[0]
        base = Servers(database_url, redis_url)
        with base.database(template="template0") as template:
            migrate(template)
            yield Servers(template, redis_url)


@contextmanager
def _started(server: embedded.Server) -> Iterator[None]:
    process = subprocess.Popen(
        server.command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **server.identity
    )
    try:
        yield
    finally:
        process.send_signal(server.stop_signal)
        process.wait(30)
