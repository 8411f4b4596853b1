"""What 100 workers with 10,000 calls in flight ask of Redis and PostgreSQL: `python -m tests.benchmarks.scaling`.

Real workers, several in one process, whose calls only wait, work beside a real Redis and PostgreSQL: few of them, twice
as many, and twice as many again. What they cost the servers is counted there, and foretold for all as a multiple of it
(tests/benchmarks/foretelling.py). Some minutes; writes results/scaling.json and scaling.md.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import psycopg
import redis
from psycopg.rows import dict_row

from deploy import embedded
from jobs.queues import Doorbell, connect
from jobs.settings import embedded_urls
from jobs.store.migrate import migrate
from tests.benchmarks.foretelling import LOADS, Costs, Load, report
from tests.support.instance import ROOT, clean_environment, fresh_directory
from tests.support.waiting import wait_until

RESULTS = Path(__file__).parent / "results"
_POOL = "coroutine:crowd"  # as of tasks that call a model, whose limits all workers share
_INSERT = """
INSERT INTO tasks (task_type, model, prompt, input, status, priority, queue, pool, max_retries, timeout_seconds, retry,
                   announced_at)
SELECT 'crowd_call', 'crowd', 'Write something', jsonb_build_object('seconds', %s::float8), 'PENDING', 5, 'default', %s,
       3, 300, '{"strategy": "fixed"}', now()
FROM generate_series(1, %s) RETURNING id, queue, pool, owner, status
"""
_DATABASE = """
SELECT xact_commit::float8 AS commits, active_time AS active_ms,
       (SELECT wal_bytes::float8 FROM pg_stat_wal) AS wal_bytes,
       (SELECT count(*)::float8 FROM tasks WHERE status = 'COMPLETED') AS tasks
FROM pg_stat_database WHERE datname = current_database()
"""
_OWN = ("tasks", "commits", "active_ms", "wal_bytes", "redis_cpu", "postgres_cpu")
_CONNECTIONS = (
    "SELECT count(*) AS count FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


class Servers:
    """Redis and PostgreSQL with the settings of `make run`."""

    def __init__(self, directory: Path, processes: dict[str, psutil.Process]) -> None:
        self.database_url, self.redis_url = embedded_urls(directory)
        self.redis = redis.Redis.from_url(self.redis_url)
        self.database = psycopg.connect(self.database_url, autocommit=True, row_factory=dict_row)
        self._processes = processes

    def counters(self) -> Counter[str]:
        """Everything that grows."""
        row = self.database.execute(_DATABASE).fetchone()
        found = Counter[str](row)
        for name, process in self._processes.items():
            found[f"{name}_cpu"] = _cpu(process)  # type: ignore[assignment]
        for name, stats in self.redis.info("commandstats").items():
            found[name.removeprefix("cmdstat_")] = stats["calls"]
        return found

    def connections(self) -> dict[str, int]:
        """Open now, without ours."""
        row: Any = self.database.execute(_CONNECTIONS).fetchone()
        return {"PostgreSQL": row["count"], "Redis": len(self.redis.client_list()) - 1}

    def add(self, count: int, seconds: float) -> None:
        """So many tasks, announced."""
        rows = self.database.execute(_INSERT, (seconds, _POOL, count)).fetchall()
        with connect(self.redis_url) as connection:
            Doorbell(connection).announce(rows)


def _cpu(process: psutil.Process) -> float:
    """Of it and of all that it started, also what has ended."""
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + (times.children_user + times.children_system if one == process else 0)
    return total


@contextmanager
def servers() -> Iterator[Servers]:
    """Started for this, and empty."""
    with fresh_directory(on_disk=True) as directory, ExitStack() as stack:
        started = {}
        options = {"max_connections": "500"}
        for server in (embedded.prepare_redis(directory), embedded.prepare_postgres(directory, options)):
            process = subprocess.Popen(
                server.command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **server.identity
            )
            stack.callback(process.wait, 60)
            stack.callback(process.send_signal, server.stop_signal)
            started[server.name] = psutil.Process(process.pid)
        wait_until(lambda: embedded.redis_answers(directory), "Redis answers")
        wait_until(lambda: embedded.postgres_answers(directory), "PostgreSQL answers")
        migrate(embedded_urls(directory)[0])
        found = Servers(directory, started)
        stack.callback(found.database.close)
        yield found


def measure(load: Load, workers: int, span: float) -> Costs:
    """With servers and workers of its own, from when all slots are taken, for so many seconds."""
    with servers() as used:
        backlog = 0 if not load.seconds else int(workers * load.slots * (2 + (span + 20) / load.seconds))
        for _ in range(0, backlog, 10_000):
            used.add(min(backlog, 10_000), load.seconds)
        crowds = _start(used, workers, load.slots)
        try:
            wait_until(lambda: _ready(used) >= workers, f"{workers} workers are there", 60)
            time.sleep(2 + 1.5 * load.seconds)
            sent, before, began = _statements(crowds), used.counters(), time.monotonic()
            _pass_time(used, load, span)
            after, took = used.counters(), time.monotonic() - began
            connections = used.connections()
            statements = _statements(crowds)
        finally:
            for crowd in crowds:
                crowd.kill()
                crowd.wait(10)
    rates = {name: (after[name] - before[name]) / took for name in after if after[name] > before[name]}
    named = {name: (count - sent[name]) / took for name, count in statements.most_common() if count > sent[name]}
    own = {name: rates.pop(name, 0.0) for name in _OWN}
    figures = {
        "tasks": own["tasks"],
        "Redis commands": sum(rates.values()),
        "Redis scripts": rates.get("evalsha", 0.0),
        "Redis: cores": own["redis_cpu"],
        "PostgreSQL statements": sum(named.values()),
        "PostgreSQL commits": own["commits"],
        "PostgreSQL: cores": own["postgres_cpu"],
        "PostgreSQL: connections at work": own["active_ms"] / 1000,
        "WAL [MB]": own["wal_bytes"] / 1e6,
    }
    return Costs(load.name, workers, figures, dict(Counter(rates).most_common()), named, connections)


def _start(used: Servers, workers: int, slots: int) -> list["subprocess.Popen[str]"]:
    """In two processes, as there are two cores and more."""
    environment = clean_environment(
        DATABASE_URL=used.database_url, REDIS_URL=used.redis_url, HANDLER_MODULES="tests.benchmarks.crowd",
        WORKER_CONCURRENCY=slots, QUEUE_SHARES="high=1,default=1,low=1", LOG_LEVEL="WARNING", LOG_FORMAT="text",
    )  # fmt: skip
    # Not with -m: its task type would be registered once as that of the program, and once as that of the module.
    command = [sys.executable, "-c", "from tests.benchmarks import crowd; crowd.main()", str(workers // 2)]
    return [subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]


def _ready(used: Servers) -> int:
    row: Any = used.database.execute("SELECT count(*) AS count FROM workers").fetchone()
    count: int = row["count"]
    return count


def _statements(crowds: list["subprocess.Popen[str]"]) -> Counter[str]:
    total = Counter[str]()
    for crowd in crowds:
        crowd.send_signal(signal.SIGUSR1)
        assert crowd.stdout
        total.update(json.loads(next(line for line in crowd.stdout if line.startswith("{"))))
    return total


def _pass_time(used: Servers, load: Load, span: float) -> None:
    until = time.monotonic() + span
    while time.monotonic() < until:
        if load.trickle:
            used.add(1, 0.0)
        time.sleep(1 / load.trickle if load.trickle else span)


def main() -> None:
    """Measure, foretell, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each measurement")
    parser.add_argument("--only", default="", help="loads whose name has this")
    chosen = parser.parse_args()
    all_costs = []
    for load in LOADS:
        for workers in load.workers if chosen.only in load.name else ():
            all_costs.append(measure(load, workers, chosen.seconds))
            print(f"{load.name}, {workers} workers: {all_costs[-1].figures}", flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "scaling.json").write_text(
        json.dumps([asdict(costs) for costs in all_costs], indent=1), encoding="utf-8"
    )
    (RESULTS / "scaling.md").write_text(report(all_costs), encoding="utf-8")
    print(report(all_costs))


if __name__ == "__main__":
    main()
