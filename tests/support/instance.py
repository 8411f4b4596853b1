"""A running Pressroom for acceptance tests: the real processes, over HTTP."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import redis

from jobs.settings import embedded_urls
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
FINAL = {"COMPLETED", "FAILED", "CANCELLED"}


_MEMORY = Path("/dev/shm")
_ENOUGH_BYTES = 4 * 2**30


@contextmanager
def fresh_directory(*, on_disk: bool = False) -> Iterator[Path]:
    """A directory of its own, gone at the end, whoever owns what is in it.

    Args:
        on_disk: also where there is room in memory, in which a thousand databases are made ten times as fast.
    """
    in_memory = not on_disk and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ENOUGH_BYTES
    directory = Path(tempfile.mkdtemp(prefix="pressroom-test-", dir=_MEMORY if in_memory else None))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def clean_environment(**settings: Any) -> dict[str, str]:
    """An environment with nothing of ours but `settings`."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, **{name: str(value) for name, value in settings.items()}}


class Instance:
    """What `make run` starts."""

    def __init__(self, data_dir: Path, **settings: Any) -> None:
        self.port = settings.pop("PORT", None) or free_port()
        self.data_dir = data_dir
        self.log_file = data_dir / f"run-{self.port}.log"
        self._environment = clean_environment(
            **{
                "PORT": self.port,
                "DATA_DIR": data_dir,
                "PYTHONUNBUFFERED": 1,
                "WEB_CONCURRENCY": 1,
                "RATE_LIMIT_DEFAULT": "1000000/minute",
                **settings,
            }
        )
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> None:
        """Start everything; by default until it is ready."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deploy.run"], cwd=ROOT, env=self._environment, stdout=log, stderr=log
            )
        if wait:
            wait_until(lambda: "ready after" in self.log() or self._ended(), "the instance is ready", 60)

    def _ended(self) -> bool:
        assert self.process
        if self.process.poll() is not None:
            raise AssertionError(f"the instance ended:\n{self.log()}")
        return False

    def stop(self) -> int:
        """SIGTERM, as a platform would; returns the exit code."""
        assert self.process
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self.http.close()
        return code

    @contextmanager
    def another_worker(self) -> Iterator[subprocess.Popen[bytes]]:
        """A second worker, for the block."""
        with self.log_file.open("ab") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "jobs.worker"], cwd=ROOT, env=self._environment, stdout=log, stderr=log
            )
        try:
            count = len(self.http.get("/health/workers").json()["workers"])
            wait_until(
                lambda: len(self.http.get("/health/workers").json()["workers"]) > min(count, 1), "another worker beats"
            )
            yield worker
        finally:
            worker.terminate()
            worker.wait(60)

    def log(self) -> str:
        """Everything it printed so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def processes(self) -> list[psutil.Process]:
        """All its processes but the supervisor itself."""
        assert self.process
        found: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return found

    def find(self, part: str) -> psutil.Process:
        """Its process whose command line has `part`; the topmost one."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                if part in " ".join(process.cmdline()):
                    return process
        raise AssertionError(f"no process with {part!r}")

    @property
    def redis(self) -> "redis.Redis":
        """Its embedded Redis."""
        return redis.Redis.from_url(embedded_urls(self.data_dir)[1])

    @property
    def database_url(self) -> str:
        """Its embedded PostgreSQL."""
        return embedded_urls(self.data_dir)[0]

    def submit(self, prompt: str = "hello", **fields: Any) -> dict[str, Any]:
        """Submit a task, which must be accepted."""
        answer = self.http.post("/api/v1/tasks", json={"prompt": prompt, "model": "test-model", **fields})
        assert answer.status_code == 201, answer.text
        task: dict[str, Any] = answer.json()
        return task

    def submit_batch(self, tasks: Iterable[dict[str, Any]]) -> int:
        """Submit tasks together; returns the batch's id."""
        answer = self.http.post("/api/v1/tasks/batch", json={"tasks": list(tasks)})
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    def task(self, task_id: int) -> dict[str, Any]:
        """A task as it is now."""
        task: dict[str, Any] = self.http.get(f"/api/v1/tasks/{task_id}").json()
        return task

    def events(self, task_id: int) -> list[dict[str, Any]]:
        """Its event log."""
        events: list[dict[str, Any]] = self.http.get(f"/api/v1/tasks/{task_id}/events").json()
        return events

    def ended(self, task_id: int, limit: float = 30) -> dict[str, Any]:
        """A task, once it has ended."""
        return self.when(task_id, lambda task: task["status"] in FINAL, "has ended", limit)

    def when(
        self, task_id: int, check: Callable[[dict[str, Any]], bool], what: str, limit: float = 30
    ) -> dict[str, Any]:
        """A task, once `check` holds for it."""

        def look() -> dict[str, Any] | None:
            task = self.task(task_id)
            return task if check(task) else None

        found = wait_until(look, f"task {task_id} {what} (it is {self.task(task_id)['status']})", limit)
        assert found
        return found

    def running(self, count: int) -> None:
        """Wait until so many tasks are being processed."""
        url = "/api/v1/tasks?status=PROCESSING&limit=1"
        wait_until(lambda: int(self.http.get(url).headers["X-Total-Count"]) >= count, f"{count} tasks are running", 30)

    def batch_ended(self, batch_id: int, limit: float = 60) -> dict[str, Any]:
        """A batch, once all its tasks have ended."""
        url = f"/api/v1/batches/{batch_id}"
        wait_until(lambda: self.http.get(url).json()["progress"] == 100, f"batch {batch_id} has ended", limit)
        batch: dict[str, Any] = self.http.get(url).json()
        return batch


@contextmanager
def running(data_dir: Path, **settings: Any) -> Iterator[Instance]:
    """An instance for the block; at its end nothing of it may be left."""
    instance = Instance(data_dir, **settings)
    try:
        instance.start()
        yield instance
    finally:
        left = instance.processes() if instance.process and instance.process.poll() is None else []
        instance.stop()
        survivors = [process for process in left if process.is_running() and process.status() != "zombie"]
        assert not survivors, f"left behind: {survivors}"
