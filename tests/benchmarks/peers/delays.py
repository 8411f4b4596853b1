"""How long urgent tasks of a peer wait for their start while its workers are busy with others."""

import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.benchmarks.peers.driver import options, started
from tests.benchmarks.peers.tally import directory

_FILE = "delays"


def note(seconds: float) -> None:
    """In a worker: one more."""
    with (directory() / f"{os.getpid()}.{_FILE}").open("a", encoding="ascii") as file:
        file.write(f"{seconds}\n")


def _noted(place: Path) -> list[float]:
    lines = [line for path in place.glob(f"*.{_FILE}") for line in path.read_text(encoding="ascii").splitlines()]
    return [1000 * float(line) for line in lines]


def of(commands: Sequence[Sequence[str]], submit: Callable[[], object]) -> dict[str, float]:
    """Submit urgent tasks now and then, and tell how long each took to start."""
    wanted, deadline = int(options()["samples"]), time.monotonic() + 60
    with started(commands) as (_, place):
        submit()
        while not _noted(place) and time.monotonic() < deadline:
            time.sleep(0.05)
        for _ in range(wanted):
            submit()
            time.sleep(random.uniform(0.005, 0.025))
        while len(_noted(place)) <= wanted and time.monotonic() < deadline:
            time.sleep(0.05)
        found = _noted(place)[1:]
    ranks = statistics.quantiles(found, n=100)
    return {"submit to start, median [ms]": ranks[49], "submit to start, p99 [ms]": ranks[98]}
