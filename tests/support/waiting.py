"""Wait for conditions instead of sleeping."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.02


def wait_until(check: Callable[[], T], description: str, limit: float = 20.0, every: float = _POLL_SECONDS) -> T:
    """The first true answer of `check`; fails, with the last answer, when there is none in time."""
    deadline = time.monotonic() + limit
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {limit:g} s for: {description}; last seen: {answer!r}")
        time.sleep(every)
