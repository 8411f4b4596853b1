"""At a million tasks: lists, statistics, the reconciler, and model calls against those on an empty database."""

import re
import time
from collections.abc import Callable
from functools import partial

import httpx
import psycopg
import redis

from jobs.queues import Doorbell, connect
from jobs.reconcile import Reconciler
from jobs.store.database import Database
from tests.benchmarks.bench import Bench, Contestant, Measured, say
from tests.benchmarks.filling import filled
from tests.benchmarks.llm import pressroom_calls
from tests.benchmarks.pressroom import database_url, pressroom

TASKS = 1_000_000
_PENDING = 100_000
_TIMES = 30
_PASSES = 10
_SLOTS, _CALLS = 200, 800
FULL = "bench_full"
_LISTS = {
    "first page": "",
    "status=PENDING": "status=PENDING",
    "status=FAILED": "status=FAILED",
    "priority": "priority=7",
    "task_type": "task_type=embedding",
    "queue": "queue=low",
    "batch_id": "batch_id=1",
    "account_id": "account_id=77",
    "created_after": "created_after={day}",
    "created_before": "created_before={day}",
    "all filters": "status=COMPLETED&queue=default&task_type=embedding&account_id=77&created_before={day}",
    "sort=priority": "sort=-priority",
    "sort=created_at": "sort=created_at",
}
_STATISTICS = ("realtime", "tasks", "tasks?hours=744&task_type=embedding", "trends?hours=168", "costs?days=30")


def measure(bench: Bench) -> None:
    """Fill, ask, and let it work."""
    total, pending = bench.count(TASKS), bench.count(_PENDING)
    began = time.monotonic()
    filled(bench, FULL, total, pending)
    say(f"  {total:,} tasks, of which {pending:,} wait, after {time.monotonic() - began:.0f} s")
    bench.compare([Contestant("the reconciler", f"{pending:,} waiting", partial(_reconcile, bench))])
    with pressroom(bench, FULL, WEB_CONCURRENCY=1) as started:
        started.suspend()
        get = started.instance.http.get
        day = _middle(get, total)
        asked = {name: f"/api/v1/tasks?{query.format(day=day)}" for name, query in _LISTS.items()}
        asked["deep page by its cursor"] = _deep(get, total)
        load = f"100 of {total:,} tasks with their total, one web process"
        for name, path in asked.items():
            bench.record(load, name, *(_timed(partial(get, path)) for _ in range(bench.rounds)))
        one = f"/api/v1/tasks/{total // 2}"
        bench.record("a task by its id", "Pressroom", *(_timed(partial(get, one)) for _ in range(bench.rounds)))
        for name in _STATISTICS:
            path = f"/api/v1/stats/{name}"
            bench.record("statistics", name, *(_timed(partial(get, path)) for _ in range(bench.rounds)))
    with psycopg.connect(database_url(bench, FULL), autocommit=True) as connection:
        # What waited would be performed before what is measured.
        connection.execute("UPDATE tasks SET status = 'CANCELLED', completed_at = now() WHERE status = 'PENDING'")
        connection.execute("VACUUM ANALYZE")
    load = f"calls of 1.0 s, {_SLOTS} in flight"
    bench.compare(
        [
            Contestant(load, "empty database", partial(_calls, bench, "")),
            Contestant(load, f"{total:,} tasks", partial(_calls, bench, FULL)),
        ]
    )


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


def _timed(act: Callable[[], httpx.Response]) -> Measured:
    """The median and the slowest of some answers, as a client sees them."""
    taken = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        answer = act()
        taken.append(1000 * (time.perf_counter() - began))
        assert answer.status_code == 200, answer.text
    taken.sort()
    return {"median [ms]": taken[_TIMES // 2], f"slowest of {_TIMES} [ms]": taken[-1]}


def _reconcile(bench: Bench) -> Measured:
    """Passes over a world in which nothing is missing."""
    with redis.Redis.from_url(bench.redis_url) as client:
        client.flushall()
    database = Database(database_url(bench, FULL), max_size=4)
    database.open()
    with connect(bench.redis_url) as connection:
        reconciler = Reconciler(database, Doorbell(connection))
        found = reconciler.run_once().unheard  # announces all that Redis lost
        assert found >= bench.count(_PENDING), found
        taken = []
        for _ in range(_PASSES):
            began = time.perf_counter()
            reconciler.run_once()
            reconciler.watch_workers()
            taken.append(1000 * (time.perf_counter() - began))
    database.close()
    return {"a pass, median [ms]": sorted(taken)[_PASSES // 2], "a pass, slowest [ms]": max(taken)}
