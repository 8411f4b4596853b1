"""At a million tasks: lists, statistics, the reconciler, and model calls against those on an empty database."""

import re
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import psycopg
import redis

from jobs.queues import Doorbell, connect
from jobs.reconcile import Reconciler
from jobs.store.database import Database
from tests.benchmarks.bench import Bench, Contestant, Measured, say
from tests.benchmarks.filling import filled, wait_in
from tests.benchmarks.llm import pressroom_calls
from tests.benchmarks.pressroom import database_url, pressroom

TASKS = 1_000_000
_PENDING = 100_000
_TIMES = 40
_PASSES = 10
_SLOTS, _CALLS = 200, 400
FULL = "bench_full"
_LISTS = {
    "first page": "",
    "status=PENDING": "status=PENDING",
    "status=FAILED": "status=FAILED",
    "priority": "priority=7",
    "task_type": "task_type=embedding",
    "queue": "queue=low",
    "batch_id": "batch_id=1",
    "account_id": "account_id=79",
    "created_after": "created_after={day}",
    "created_before": "created_before={day}",
    "all filters": "status=COMPLETED&queue=default&task_type=embedding&account_id=79&created_before={day}",
    "a large account's": "account_id=1&status=FAILED",
    "search": "search=number+77",
    "sort=id": "sort=id",
    "sort=-priority": "sort=-priority",
    "sort=created_at": "sort=created_at",
    "sort=-created_at": "sort=-created_at",
}
_PAGES = (
    "/", "/tasks", "/tasks?status=FAILED&queue=low", "/tasks?search=number+77", "/trends", "/trends?hours=168&days=90",
)  # fmt: skip
_STATISTICS = ("realtime", "tasks", "tasks?hours=744&task_type=embedding", "trends?hours=168", "costs?days=30")


def measure(bench: Bench) -> None:
    """Let it work beside a million tasks, then have as many more wait as workers would leave behind, and ask."""
    total, pending = bench.count(TASKS), bench.count(_PENDING)
    began = time.monotonic()
    url = filled(bench, FULL, total)
    say(f"  {total:,} tasks after {time.monotonic() - began:.0f} s")
    load = f"calls of 1.0 s, {_SLOTS} in flight"
    bench.compare(
        [
            Contestant(load, "empty database", partial(_calls, bench, "")),
            Contestant(load, f"{total:,} tasks", partial(_calls, bench, FULL)),
        ]
    )
    began = time.monotonic()
    waiting = wait_in(url, pending)
    say(f"  {pending:,} more wait after {time.monotonic() - began:.0f} s")
    _reconcile(bench, waiting)
    with pressroom(bench, FULL, at_work=False, WEB_CONCURRENCY=1) as started:
        _ask(bench, partial(started.instance.http.get, headers={"Accept": "text/html"}), total)
    with psycopg.connect(url, autocommit=True) as connection:  # the database is used again
        connection.execute("DELETE FROM tasks WHERE status = 'PENDING'")
        connection.execute("VACUUM tasks")


def _ask(bench: Bench, get: Callable[[str], httpx.Response], total: int) -> None:
    """Every kind of question, one after the other, then all of them again..."""
    day = _middle(get, total)
    asked = {
        f"100 of {total:,} tasks with their total": {
            **{name: f"/api/v1/tasks?{query.format(day=day)}" for name, query in _LISTS.items()},
            "deep page by its cursor": _deep(get, total),
        },
        "a task by its id": {"Pressroom": f"/api/v1/tasks/{total // 2}"},
        "statistics": {name: f"/api/v1/stats/{name}" for name in _STATISTICS},
        "the console": {path: path for path in _PAGES},
    }
    every = [(load, name, path) for load, questions in asked.items() for name, path in questions.items()]
    rounds: list[list[list[float]]] = [[_timed(partial(get, path)) for *_, path in every] for _ in range(bench.rounds)]
    for (load, name, _), taken in zip(every, zip(*rounds, strict=True), strict=True):
        together = [value for values in taken for value in values]
        slowest = {f"p99 of {len(together)} [ms]": statistics.quantiles(together, n=100, method="inclusive")[98]}
        bench.record(load, name, *({"median [ms]": statistics.median(values)} for values in taken), slowest)


def _calls(bench: Bench, database: str) -> Measured:
    count = _SLOTS * bench.count(_CALLS // _SLOTS, 2)
    return pressroom_calls(bench, _SLOTS, count, database)


def _middle(get: Callable[[str], httpx.Response], total: int) -> str:
    """When the task in the middle was created, as a query has it."""
    middle: str = get(f"/api/v1/tasks?sort=id&limit=1&skip={total // 2}").json()[0]["created_at"]
    return middle.replace("+", "%2B")


def _deep(get: Callable[[str], httpx.Response], total: int) -> str:
    """The page after the first half, as the Link header of the page before has it."""
    link = get(f"/api/v1/tasks?skip={total // 2}&limit=100").headers["Link"]
    found = re.search(r'<([^>]+)>; rel="next"', link)
    assert found
    return found[1]


def _timed(act: Callable[[], httpx.Response]) -> list[float]:
    """How long some answers took, as a client sees them."""
    taken = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        answer = act()
        taken.append(1000 * (time.perf_counter() - began))
        assert answer.status_code == 200, answer.text
    return taken


def _reconcile(bench: Bench, waiting: list[dict[str, Any]]) -> None:
    """Passes over a world in which nothing is missing."""
    with redis.Redis.from_url(bench.redis_url) as client:
        client.flushall()
    database = Database(database_url(bench, FULL), max_size=4)
    database.open()
    with connect(bench.redis_url) as connection:
        doorbell = Doorbell(connection)
        doorbell.announce(waiting)
        reconciler = Reconciler(database, doorbell)
        assert not reconciler.run_once().unheard
        rounds = []
        for _ in range(bench.rounds):
            taken = []
            for _ in range(_PASSES):
                began = time.perf_counter()
                reconciler.run_once()
                reconciler.watch_workers()
                taken.append(1000 * (time.perf_counter() - began))
            rounds.append({"a pass, median [ms]": statistics.median(taken), "a pass, slowest [ms]": max(taken)})
    database.close()
    bench.record("the reconciler", f"{len(waiting):,} waiting", *rounds)
