"""How throughput changes with concurrency, with the length of the queue, and with the size of the table."""

import time

from jobs.queues import Doorbell, connect
from tests.benchmarks.bench import Bench, Curve, say
from tests.benchmarks.filling import add_waiting, filled
from tests.benchmarks.llm import CALL, load_of
from tests.benchmarks.million import FULL, TASKS
from tests.benchmarks.pressroom import Running, exists, pressroom
from tests.support.waiting import wait_until

_SLOTS = (50, 100, 200, 400, 800, 1600)
_WAVES = 2
_LENGTHS = (1_000, 10_000, 100_000, 1_000_000)
_SIZES = (0, 100_000, TASKS)
_WINDOW_SECONDS = 2.0
_FEW = 5_000
_PIECE = 50_000  # stored and announced together
_WINDOW = """
SELECT count(*) / extract(epoch FROM max(completed_at) - min(started_at))::float8
FROM tasks WHERE completed_at >= %s AND task_type = 'bench_noop'
"""
_RUNNING = "SELECT EXISTS (SELECT FROM tasks WHERE status = 'PROCESSING')"


def measure(bench: Bench) -> None:
    """Three curves."""
    bench.draw(_concurrency(bench))
    bench.draw(_table_size(bench))
    bench.draw(_queue_length(bench))


def _concurrency(bench: Bench) -> Curve:
    """What the model calls have measured already is taken from there."""
    curve = Curve("throughput and concurrency", "calls of 1.0 s in flight", "tasks/s", "Pressroom, one worker process")
    known = {
        one.load: one.values["tasks/s"]
        for one in bench.figures
        if one.who == "Pressroom" and one.part == "llm" and one.values
    }
    for slots in _SLOTS:
        rounds = known.get(load_of(slots))
        if rounds is None:
            with pressroom(bench, WORKER_CONCURRENCY=slots) as started:
                rounds = [_calls(started, slots) for _ in range(bench.rounds)]
        curve.points.append((slots, rounds))
        say(f"  {slots} in flight: {min(rounds):.0f} to {max(rounds):.0f} tasks/s")
    return curve


def _calls(started: Running, slots: int) -> float:
    return started.throughput(slots * _WAVES, started.workers(), **CALL)["tasks/s"]


def _table_size(bench: Bench) -> Curve:
    curve = Curve("throughput and table size", "ended tasks in the table", "tasks/s", "Pressroom, no-op tasks")
    curve.points = [(bench.count(size, 0), []) for size in _SIZES]
    for size, _ in curve.points:
        if size and not exists(bench, _database(bench, int(size))):
            filled(bench, _database(bench, int(size)), int(size))
    for size, rounds in curve.points:
        with pressroom(bench, _database(bench, int(size))) as started:
            for _ in range(bench.rounds):
                measured = started.throughput(_FEW, started.workers(), task_type="bench_noop", input={})
                rounds.append(measured["tasks/s"])
        say(f"  {size:,} ended tasks: {min(rounds):.0f} to {max(rounds):.0f} tasks/s")
    return curve


def _database(bench: Bench, size: int) -> str:
    """Its name; that of the part `million` is used again."""
    if not size:
        return ""
    return FULL if size == bench.count(TASKS) else f"bench_{size}"


def _queue_length(bench: Bench) -> Curve:
    """Filled once for each length; each round lets the worker go for some seconds."""
    curve = Curve("throughput and queue length", "tasks in the queue", "tasks/s", "Pressroom, no-op tasks")
    with pressroom(bench) as started:
        for length in (bench.count(length, 100) for length in _LENGTHS):
            rounds = []
            for _ in range(bench.rounds):
                started.suspend()
                _top_up(started, length)
                rounds.append(_window(started))
            curve.points.append((length, rounds))
            say(f"  {length:,} in the queue: {min(rounds):.0f} to {max(rounds):.0f} tasks/s")
        started.suspend()
    return curve


def _top_up(started: Running, length: int) -> None:
    """Store and announce what is missing."""
    waiting = started.one("SELECT count(*) FROM tasks WHERE status = 'PENDING'")
    with connect(started.redis_url) as connection:
        doorbell = Doorbell(connection)
        while waiting < length:
            count = min(_PIECE, length - waiting)
            doorbell.announce(add_waiting(started.database, count))
            waiting += count


def _window(started: Running) -> float:
    """The rate of some seconds, or until the queue is empty."""
    began = started.one("SELECT clock_timestamp()")
    started.resume()
    time.sleep(_WINDOW_SECONDS)
    started.suspend()
    wait_until(lambda: not started.one(_RUNNING), "what was taken has ended", 60)
    return float(started.one(_WINDOW, began))
