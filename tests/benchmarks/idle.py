"""What an instance costs that has nothing to do, and how soon a worker is ready."""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.bench import Bench, Contestant, Measured
from tests.benchmarks.pressroom import Running, cpu_seconds, pressroom
from tests.support.instance import ROOT
from tests.support.waiting import wait_until

_SETTLE_SECONDS = 5.0
_SECONDS = 10.0
_WORKERS = "SELECT count(*) FROM workers WHERE kind = 'worker' AND stopped_at IS NULL"
_SERVERS = ("postgres", "redis-server")
_SHARES = "high=1.0,default=0.9,low=0.7"
_DEFAULTS: dict[str, Any] = {"QUEUE_SHARES": _SHARES, "HANDLER_MODULES": "", "WEB_CONCURRENCY": 2}


def measure(bench: Bench) -> None:
    """An instance as `make run` starts it, with all default settings."""
    with pressroom(bench, **_DEFAULTS) as started:
        bench.compare([Contestant("a worker's start", "Pressroom", partial(_ready, started))])
        time.sleep(_SETTLE_SECONDS * min(1.0, bench.scale))
        with _statements_logged(started):
            bench.compare([Contestant("nothing to do", "Pressroom", partial(_idle, started, bench))])


def _ready(started: Running) -> Measured:
    """From the start of its process until it has signed on; it looks for tasks the next moment."""
    worker = started.instance.find("jobs.worker")
    before = started.one(_WORKERS)
    began = time.perf_counter()
    another = subprocess.Popen(
        [sys.executable, "-m", "jobs.worker"], cwd=ROOT, env=worker.environ(), stdout=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: started.one(_WORKERS) > before, "another worker has signed on")
        return {"until ready [s]": time.perf_counter() - began}
    finally:
        another.terminate()
        another.wait(60)


@contextmanager
def _statements_logged(started: Running) -> Iterator[None]:
    def log(what: str) -> None:
        started.database.execute(f"ALTER SYSTEM SET log_statement = '{what}'".encode())
        started.database.execute("SELECT pg_reload_conf()")

    log("all")
    try:
        yield
    finally:
        log("none")


def _idle(started: Running, bench: Bench) -> Measured:
    seconds = max(3.0, _SECONDS * min(1.0, bench.scale))
    ours = started.instance.processes()
    servers = [one for one in psutil.Process().children(recursive=True) if one.name() in _SERVERS]
    statements, commands = _statements(bench.data_dir), _commands(started)
    since = {process: cpu_seconds([process]) for process in [*ours, *servers]}
    time.sleep(seconds)
    spent, spent_by_servers = _spent(ours, since), _spent(servers, since)
    minutes = seconds / 60
    return {
        "CPU of web, worker, scheduler [% of a core]": 100 * spent / seconds,
        "CPU with PostgreSQL and Redis [% of a core]": 100 * (spent + spent_by_servers) / seconds,
        "memory of web, worker, scheduler [MB]": sum(one.memory_info().rss for one in ours) / 2**20,
        "the same, what they share counted once [MB]": sum(_share(one) for one in ours) / 2**20,
        "PostgreSQL statements a minute": (_statements(bench.data_dir) - statements) / minutes,
        "Redis commands a minute": (_commands(started) - commands - 1) / minutes,
    }


def _spent(processes: Sequence[psutil.Process], since: Mapping[psutil.Process, float]) -> float:
    """Since then, by those of them that are still there: PostgreSQL has some that come and go."""
    return sum(cpu_seconds([process]) - since[process] for process in processes if process.is_running())


def _share(process: psutil.Process) -> float:
    full = process.memory_full_info()
    return float(getattr(full, "pss", full.uss))


def _statements(data_dir: Path) -> int:
    """Logged so far: as statements, or as executions of prepared ones."""
    text = (data_dir / "postgres.log").read_text(errors="replace")
    return text.count("LOG:  statement: ") + text.count("LOG:  execute ")


def _commands(started: Running) -> int:
    return int(started.redis.info("stats")["total_commands_processed"])
