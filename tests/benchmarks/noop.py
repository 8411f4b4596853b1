"""Small tasks: a handler that does nothing, one worker process and two."""

from functools import partial
from typing import Any

from tests.benchmarks.bench import Bench, Contestant, Measured
from tests.benchmarks.pressroom import Running, pressroom

_TASKS = 12_000
_LOAD = "tasks that do nothing"
_PEERS: tuple[tuple[str, str, int, dict[str, Any]], ...] = (
    # who, script, tasks, options
    ("Dramatiq, 2 processes of 8 threads", "dramatiq_peer", 10_000, {"processes": 2, "slots": 8}),
    ("Celery, prefork 2", "celery_peer", 2_000, {"pool": "prefork", "slots": 2, "prefetch": 100}),
    ("RQ, 2 SimpleWorkers", "rq_peer", 1_200, {"processes": 2}),
)


def measure(bench: Bench) -> None:
    """Compare them all."""
    one = Contestant(_LOAD, "Pressroom, 1 worker process", partial(_pressroom, bench, 1))
    two = Contestant(_LOAD, "Pressroom, 2 worker processes", partial(_pressroom, bench, 2))
    peers = [
        Contestant(_LOAD, who, partial(bench.peer, script, "noop", tasks=bench.count(tasks, 100), **options))
        for who, script, tasks, options in _PEERS
    ]
    alone, together, *_ = bench.compare([one, two, *peers])
    ratios = zip(alone.values["tasks/s"], together.values["tasks/s"], strict=True)
    bench.record("scaling out", "Pressroom", *({"2 processes against 1": both / single} for single, both in ratios))


def _pressroom(bench: Bench, processes: int) -> Measured:
    with pressroom(bench) as started:
        if processes == 1:
            return _perform(bench, started)
        with started.instance.another_worker() as another:
            return _perform(bench, started, another.pid)


def _perform(bench: Bench, started: Running, *others: int) -> Measured:
    workers = started.workers(*others)
    return started.throughput(bench.count(_TASKS, 1000) * (1 + len(others)), workers, task_type="bench_noop", input={})
