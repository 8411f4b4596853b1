"""Small tasks: a handler that does nothing, one worker process and two."""

from functools import partial
from typing import Any

from tests.benchmarks.bench import Bench, Contestant, Measured
from tests.benchmarks.pressroom import pressroom

_TASKS = 12_000
_LOAD = "tasks that do nothing"
_PEERS: tuple[tuple[str, str, int, dict[str, Any]], ...] = (
    # who, script, tasks, options
    ("Dramatiq, 2 processes of 8 threads", "dramatiq_peer", 10_000, {"processes": 2, "slots": 8}),
    ("Celery, prefork 2", "celery_peer", 1_500, {"pool": "prefork", "slots": 2, "prefetch": 100}),
    ("RQ, 2 SimpleWorkers", "rq_peer", 900, {"processes": 2}),
)


def measure(bench: Bench) -> None:
    """Compare them all."""
    peers = [
        Contestant(_LOAD, who, partial(bench.peer, script, "noop", tasks=bench.count(tasks, 100), **options))
        for who, script, tasks, options in _PEERS
    ]
    bench.compare([Contestant(_LOAD, "Pressroom", partial(_pressroom, bench)), *peers])


def _pressroom(bench: Bench) -> Measured:
    """One worker process, then two."""
    count, task = bench.count(_TASKS, 1000), {"task_type": "bench_noop", "input": {}}
    with pressroom(bench) as started:
        one = started.throughput(count, started.workers(), **task)
        with started.instance.another_worker() as another:
            two = started.throughput(2 * count, started.workers(another.pid), **task)
    together = {f"{name}, two processes": two[name] for name in ("tasks/s", "worker CPU a task [ms]")}
    return {**one, **together, "two processes against one": two["tasks/s"] / one["tasks/s"]}
