"""Work that comes again and again, and is not to take more than a part of the time."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Pace:
    """Says when such work may be done again: the longer it took, the later."""

    def __init__(self, share: float, *, least: float = 0.0, quick: float = 0.0) -> None:
        """`share`: of the time that it may take; `least`: seconds between two; work within `quick` seconds is free."""
        self._share = share
        self._least = least
        self._quick = quick
        self._next = 0.0

    @property
    def rest(self) -> float:
        """Seconds until it may be done again."""
        return max(0.0, self._next - time.monotonic())

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Around the work; what fails may be tried again at once."""
        began = time.monotonic()
        yield
        now = time.monotonic()
        paid_at = began + (now - began) / self._share if now - began > self._quick else now
        self._next = max(now + self._least, paid_at)
