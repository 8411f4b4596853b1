"""The line on a terminal that tells how far things are; on anything else there is none."""

import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

from cli.show import cut, span
from jobs.lifecycle import TERMINAL

_TICK_SECONDS: Final = 0.2
_CLEAR: Final = "\r\x1b[2K"
_BAR: Final = 24


class Line:
    """A line on standard error, drawn anew several times a second while entered: what it says may hold a clock."""

    def __init__(self, says: Callable[[], str]) -> None:
        self._says = says
        self._is_shown = sys.stderr.isatty()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._is_shown:
            self._thread = threading.Thread(target=self._draw, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Take it away, for good."""
        self._ended.set()
        if self._thread:
            self._thread.join()
            self._thread = None
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()

    def _draw(self) -> None:
        while not self._ended.wait(_TICK_SECONDS):
            columns = shutil.get_terminal_size().columns - 1
            sys.stderr.write(_CLEAR + cut(self._says(), columns))
            sys.stderr.flush()


def ended(counts: Mapping[str, int]) -> int:
    """How many have, of a batch's counts by state."""
    return sum(number for status, number in counts.items() if status in TERMINAL)


class Progress:
    """How far a batch is. What was done before this run counts for the bar, not for the rate."""

    def __init__(self, total: int, done: int) -> None:
        self.done = done
        self.failed = 0
        self._total = total
        self._before = done
        self._began = time.monotonic()

    def rate(self, now: float) -> float:
        """Tasks a second in this run."""
        return (self.done - self._before) / max(now - self._began, 0.001)

    def __str__(self) -> str:
        rate = self.rate(time.monotonic())
        part = self.done / self._total if self._total else 1.0
        bar = ("#" * int(part * _BAR)).ljust(_BAR, ".")
        left = f"{span((self._total - self.done) / rate)} left" if rate else "waiting"
        failed = f", {self.failed:,} failed" if self.failed else ""
        return f"[{bar}] {part:4.0%}  {self.done:,} of {self._total:,}{failed}  {rate:,.0f}/s  {left}"
