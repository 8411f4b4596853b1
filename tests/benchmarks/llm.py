"""Model calls: an endpoint that takes 1.0 s, one worker process with 200, 800 and 1,600 calls in flight."""

from collections.abc import Callable
from functools import partial

from tests.benchmarks.bench import Bench, Contestant, Measured
from tests.benchmarks.pressroom import pressroom

_WAVES = {200: 8, 800: 6, 1600: 5}  # tasks for each slot
_PEERS = (
    # who, script, load, in flight, waves
    ("SAQ, 200 in flight, aiohttp", "saq_peer", 200, 8),
)


def measure(bench: Bench) -> None:
    """Compare them all."""
    contestants = []
    for slots, waves in _WAVES.items():
        load = f"1.0 s calls, {slots} in flight"
        count = slots * max(2, int(waves * bench.scale))
        contestants += [
            Contestant(load, "Pressroom", partial(_pressroom, bench, slots, count)),
            Contestant(load, "no queue: asyncio, aiohttp", partial(_peer, bench, "bare_peer", slots, count)),
        ]
    for who, script, slots, waves in _PEERS:
        count = slots * max(2, int(waves * bench.scale))
        act: Callable[[], Measured] = partial(_peer, bench, script, slots, count)
        contestants.append(Contestant(f"1.0 s calls, {slots} in flight", who, act))
    bench.compare(contestants)


def _pressroom(bench: Bench, slots: int, count: int) -> Measured:
    with pressroom(bench, WORKER_CONCURRENCY=slots) as started:
        measured = started.throughput(count, started.workers(), prompt="Say something long.", model="m")
        return _against_ideal(measured, slots)


def _peer(bench: Bench, script: str, slots: int, count: int) -> Measured:
    return _against_ideal(bench.peer(script, "llm", slots=slots, tasks=count), slots)


def _against_ideal(measured: Measured, slots: int) -> Measured:
    return {**measured, "of the ideal": measured["tasks/s"] / slots}
