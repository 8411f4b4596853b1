"""A small cluster of real processes that are started again when they die, each behind proxies of its own."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import redis

from deploy import embedded
from jobs.store.migrate import migrate
from tests.gauntlet.proxy import Proxies
from tests.support.instance import ROOT, clean_environment, free_port
from tests.support.waiting import wait_until

WEBS, WORKERS, SCHEDULERS = ("web-1", "web-2"), ("worker-1", "worker-2"), ("scheduler-1", "scheduler-2")
_WATCH_SECONDS = 0.1
_RESTART_SECONDS = 0.3


class Process:
    """One of them, started again a moment after it ended, unless that was asked for."""

    def __init__(self, name: str, command: list[str], log: Path, **popen: Any) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._popen = popen
        self._process: subprocess.Popen[bytes] | None = None
        self._ended_at: float | None = None
        self.starts = 0

    def start(self) -> None:
        """Start it."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, start_new_session=True, **self._popen
            )
        self._ended_at = None
        self.starts += 1

    def limit_files(self, size: int) -> None:
        """Let it, and its children, write no file beyond so many bytes (-1: any); asked for as the user it runs as."""
        identity = {name: self._popen[name] for name in ("user", "group", "extra_groups") if name in self._popen}
        limit = f"--fsize={'unlimited' if size < 0 else size}:"
        for process in self.all():
            command = ["prlimit", "--pid", str(process.pid), limit]
            # A child that has ended meanwhile has no limit either.
            subprocess.run(command, check=process.pid == self.pid, capture_output=True, cwd="/", **identity)

    def watch(self) -> None:
        """Start it again where it has ended."""
        if self._process is None or self._process.poll() is None:
            return
        if self._ended_at is None:
            self._ended_at = time.monotonic()
        elif time.monotonic() - self._ended_at > _RESTART_SECONDS:
            self.start()

    @property
    def pid(self) -> int:
        """Its process id, also when it has ended."""
        return self._process.pid if self._process else 0

    def all(self) -> list[psutil.Process]:
        """It and its children, which may be gone by now."""
        with suppress(psutil.NoSuchProcess):
            me = psutil.Process(self.pid)
            return [me, *me.children(recursive=True)]
        return []

    def send(self, number: int) -> None:
        """A signal to it, if it is there just now."""
        for process in self.all()[:1]:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def send_all(self, number: int) -> None:
        """A signal to it and its children."""
        for process in self.all():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def end(self, number: int, patience: float) -> int | None:
        """Ask it to end; its exit code, None when it had to be killed."""
        assert self._process
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
        try:
            return self._process.wait(patience)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            return None


class Cluster:
    """Everything, on 127.0.0.1."""

    def __init__(self, place: Path, seed: int) -> None:
        self.place = place
        self.seed = seed
        self.proxies = Proxies()
        self.processes: dict[str, Process] = {}
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True, name="watcher")
        self._pg_port, self._redis_port, model_port = free_port(), free_port(), free_port()
        self.web_ports = {name: free_port() for name in WEBS}
        self.model = httpx.Client(base_url=f"http://127.0.0.1:{model_port}", timeout=10)
        self.redis = redis.Redis(port=self._redis_port, socket_timeout=5)  # past the proxies
        self._servers(model_port)
        for name in (*WEBS, *WORKERS, *SCHEDULERS):
            self._client(name, model_port)

    def _servers(self, model_port: int) -> None:
        postgres = embedded.prepare_postgres(
            self.place / "pg", {"listen_addresses": "127.0.0.1", "port": str(self._pg_port), "max_connections": "300"}
        )
        store = embedded.prepare_redis(self.place / "redis", "--port", str(self._redis_port), "--bind", "127.0.0.1")
        for server in (postgres, store):
            self._add(server.name, server.command, cwd="/", **server.identity)
        endpoint = [sys.executable, "-m", "tests.gauntlet.endpoint", str(model_port), str(self.seed)]
        self._add("endpoint", endpoint, cwd=ROOT)

    def _client(self, name: str, model_port: int) -> None:
        python = [sys.executable, "-m"]
        commands = {
            "web": [*python, "gunicorn", "-c", "deploy/gunicorn.conf.py"],
            "worker": [*python, "jobs.worker"],
            "scheduler": [*python, "scheduler"],
        }
        pg_port = self.proxies.add(f"{name} postgres", self._pg_port)
        redis_port = self.proxies.add(f"{name} redis", self._redis_port)
        environment = clean_environment(
            DATABASE_URL=f"postgresql://postgres@127.0.0.1:{pg_port}/pressroom",
            REDIS_URL=f"redis://127.0.0.1:{redis_port}/0",
            LLM_BASE_URL=f"http://127.0.0.1:{model_port}/v1", DATA_DIR=self.place, PORT=self.web_ports.get(name, 8000),
            WEB_CONCURRENCY=1, WORKER_CONCURRENCY=40, WORKER_THREADS=4, WORKER_PROCESSES=2, PYTHONUNBUFFERED=1,
            HANDLER_MODULES="tests.gauntlet.handlers", LOG_LEVEL="INFO", LOG_FORMAT="json",
            SHUTDOWN_GRACE_SECONDS=6, RATE_LIMIT_DEFAULT="1000000/minute",
        )  # fmt: skip
        self._add(name, commands[name.partition("-")[0]], cwd=ROOT, env=environment)

    def _add(self, name: str, command: list[str], **popen: Any) -> None:
        self.processes[name] = Process(name, command, self.place / f"{name}.log", **popen)

    def _watch(self) -> None:
        while not self._stopping.wait(_WATCH_SECONDS):
            for process in self.processes.values():
                process.watch()

    @contextmanager
    def running(self) -> Iterator["Cluster"]:
        """For the block; all of it is ended then."""
        try:
            for name in ("postgres", "redis", "endpoint"):
                self.processes[name].start()
            wait_until(self._postgres_answers, "PostgreSQL answers", 60)
            migrate(self.database_url)
            for name in (*WEBS, *WORKERS, *SCHEDULERS):
                self.processes[name].start()
            self._watcher.start()
            wait_until(self.is_well, "all is well", 60)
            yield self
        finally:
            self._stopping.set()
            if self._watcher.is_alive():
                self._watcher.join()
            for process in reversed(self.processes.values()):
                process.send_all(signal.SIGCONT)
                number = signal.SIGINT if process.name == "postgres" else signal.SIGTERM
                if process.starts:
                    process.end(number, 15)
            self.proxies.close()
            self.model.close()
            self.redis.close()

    def _postgres_answers(self) -> bool:
        try:
            with psycopg.connect(self._url("postgres"), autocommit=True, connect_timeout=2) as connection:
                connection.execute("CREATE DATABASE pressroom")
        except psycopg.Error:
            return False
        return True

    def is_well(self) -> bool:
        """Whether every web process says so, with all workers there."""
        for port in self.web_ports.values():
            try:
                health = httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).json()
            except (httpx.HTTPError, ValueError):
                return False
            if health["status"] != "healthy" or health["workers"] < len(WORKERS):
                return False
        return True

    def _url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self._pg_port}/{database}"

    @property
    def database_url(self) -> str:
        """Past the proxies."""
        return self._url("pressroom")

    def rows(self, statement: Any, **parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of a statement, however often PostgreSQL has to be asked within a minute."""

        def ask() -> list[list[tuple[Any, ...]]] | None:
            try:
                with psycopg.connect(self.database_url, connect_timeout=2, autocommit=True) as connection:
                    return [connection.execute(statement, parameters).fetchall()]
            except psycopg.OperationalError:
                return None

        found = wait_until(ask, "PostgreSQL answers", 60)
        assert found
        return found[0]

    def one(self, names: tuple[str, ...], chance: random.Random) -> Process:
        """One of several."""
        return self.processes[chance.choice(names)]

    def text(self, name: str) -> str:
        """What a process has logged."""
        return self.processes[name].log.read_text(errors="replace")
