"""Model calls: an endpoint that takes 1.0 s, one worker process with 200, 800 and 1,600 calls in flight."""

from functools import partial
from typing import Any

from tests.benchmarks.bench import Bench, Contestant, Measured
from tests.benchmarks.pressroom import pressroom

_WAVES = {200: 10, 800: 5, 1600: 3}  # tasks for each slot
CALL = {"prompt": "Say something long.", "model": "m"}
_PEERS: tuple[tuple[str, str, int, dict[str, Any]], ...] = (
    # who, script, in flight, options
    ("SAQ, aiohttp", "saq_peer", 200, {}),
    ("Celery, gevent 200", "celery_peer", 200, {"pool": "gevent"}),
    ("RQ, 4 SimpleWorkers: 4 in flight", "rq_peer", 4, {"processes": 4}),
)


def measure(bench: Bench) -> None:
    """Compare them all."""
    contestants = []
    for slots, waves in _WAVES.items():
        count = slots * bench.count(waves, 2)
        load = load_of(slots)
        contestants.append(Contestant(load, "Pressroom", partial(pressroom_calls, bench, slots, count)))
        if slots < max(_WAVES):
            bare = partial(_peer, bench, "bare_peer", slots, count, {})
            contestants.append(Contestant(load, "no queue: asyncio, aiohttp", bare))
        contestants += [
            Contestant(load, who, partial(_peer, bench, script, places, places * bench.count(waves, 2), options))
            for who, script, places, options in _PEERS
            if slots == min(_WAVES)
        ]
    bench.compare(contestants)


def load_of(slots: int) -> str:
    """Its name in the table."""
    return f"calls of 1.0 s, {slots:,} in flight"


def pressroom_calls(bench: Bench, slots: int, count: int, database: str = "") -> Measured:
    """Of one worker process."""
    with pressroom(bench, database, WORKER_CONCURRENCY=slots) as started:
        measured = started.throughput(count, started.workers(), **CALL)
        return _against_ideal(measured, slots)


def _peer(bench: Bench, script: str, slots: int, count: int, options: dict[str, Any]) -> Measured:
    return _against_ideal(bench.peer(script, "llm", slots=slots, tasks=count, **options), slots)


def _against_ideal(measured: Measured, slots: int) -> Measured:
    return {**measured, "of the ideal": measured["tasks/s"] / slots}
