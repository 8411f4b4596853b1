"""What 100 workers with 10,000 calls in flight ask of Redis and PostgreSQL: `python -m tests.benchmarks.scaling`.

Real workers, several in one process, whose calls only wait, work beside a real Redis and PostgreSQL: few of them, twice
as many, and twice as many again. What each of them costs the servers is counted there. If that does not grow with their
number, a hundred cost a hundred times as much; the table shows how well half as many foretold the largest number that
was measured. Some minutes; writes results/scaling.json and scaling.md.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
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
from tests.support.instance import ROOT, clean_environment, fresh_directory
from tests.support.waiting import wait_until

WORKERS, SLOTS = 100, 100
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
ASSUMPTIONS = f"""
- {WORKERS} worker processes with {SLOTS} slots each, all busy: 10,000 calls in flight, and always more tasks waiting.
- A call takes 1.0 s or 10 s on the average, evenly from half to one and a half times that; its answer has 1.5 KB.
- Tasks of one model, without limits, in one queue, without batches, dependencies, callbacks and streams.
- What a worker costs the servers depends on how many tasks a second it does, not on the number of the others.
- Redis works on one core. PostgreSQL's cores are those of this machine; a larger one has more of them.
- Statements include BEGIN and COMMIT. Redis commands include those that scripts run; a script is one round trip.
- Submitting, the scheduler and the web processes are not counted: a task costs PostgreSQL one more transaction (less
  when it comes in a batch), and Redis one more script.
"""


@dataclass(frozen=True)
class Load:
    """What the workers do: calls of so many seconds, or (0) nothing, but for so many tasks a second, one at a time."""

    name: str
    seconds: float
    workers: tuple[int, ...]
    trickle: float = 0.0


LOADS = (
    Load("nothing to do", 0.0, (10, 20, 40)),
    Load("20 tasks a second, all slots free", 0.0, (10, 40), trickle=20.0),
    Load("calls of 10 s", 10.0, (10, 20, 40)),
    Load("calls of 1.0 s", 1.0, (2, 4, 8)),
)


@dataclass
class Costs:
    """What so many workers with one load cost, a second."""

    load: str
    workers: int
    figures: dict[str, float]
    commands: dict[str, float]
    statements: dict[str, float]
    connections: dict[str, int]


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
    with fresh_directory() as directory, ExitStack() as stack:
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
        backlog = 0 if not load.seconds else int(workers * SLOTS * (2 + (span + 20) / load.seconds))
        for _ in range(0, backlog, 10_000):
            used.add(min(backlog, 10_000), load.seconds)
        crowds = _start(used, workers)
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


def _start(used: Servers, workers: int) -> list["subprocess.Popen[str]"]:
    """In two processes, as there are two cores and more."""
    environment = clean_environment(
        DATABASE_URL=used.database_url, REDIS_URL=used.redis_url, HANDLER_MODULES="tests.benchmarks.crowd",
        WORKER_CONCURRENCY=SLOTS, QUEUE_SHARES="high=1,default=1,low=1", LOG_LEVEL="WARNING", LOG_FORMAT="text",
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


def foretold(costs: Costs, workers: int) -> dict[str, float]:
    """The figures of more workers with the same load: as many times more."""
    return {name: value * workers / costs.workers for name, value in costs.figures.items()}


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Markdown."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *(map(_shown, row) for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _shown(cell: object) -> str:
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.3g}"


def report(all_costs: list[Costs]) -> str:
    """The page."""
    page = ["# Scaling out", "", __doc__ or "", "## Assumptions", ASSUMPTIONS]
    for load in LOADS:
        found = [costs for costs in all_costs if costs.load == load.name]
        if not found:
            continue
        largest = found[-1]
        half = foretold(found[-2], largest.workers) if len(found) > 1 else largest.figures
        full = foretold(largest, WORKERS)
        rows = [
            (name, *(costs.figures[name] for costs in found),
             largest.figures[name] / half[name] if half[name] else "", full[name])
            for name in largest.figures
        ]  # fmt: skip
        head = ["a second", *(f"{costs.workers} workers" for costs in found), "of what the one before foretold",
                f"{WORKERS} workers"]  # fmt: skip
        page += [f"## {load.name}", "", *table(head, rows), ""]
        tasks = largest.figures["tasks"]
        each, per = (tasks, "a task") if tasks else (largest.workers / 60, "a worker and minute")
        for what, kinds in (("Redis commands", largest.commands), ("PostgreSQL statements", largest.statements)):
            listed = ", ".join(f"{name} {rate / each:.2g}" for name, rate in list(kinds.items())[:14])
            page += [f"{what}, {per}: {listed}.", ""]
        each_open = ", ".join(f"{name} {count / largest.workers:.1f}" for name, count in largest.connections.items())
        page += [f"Connections a worker: {each_open}.", ""]
    return "\n".join(page)


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
