"""The reconciler in a scheduler process: in threads of its own, so that no beat and no firing waits for it."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import structlog

from jobs import statistics
from jobs.beats import WATCH_SECONDS
from jobs.errors import Unavailable
from jobs.pace import Pace
from jobs.queues import Doorbell, RedisError
from jobs.reconcile import Reconciler
from jobs.settings import Settings
from jobs.store.database import Database

log = structlog.get_logger(__name__)

THREADS: Final = 2
_PAUSE_SECONDS: Final = 0.5
_AFTERMATH_SECONDS: Final = 10.0  # for so long after an outage, there is much to put right
_SOON_SECONDS: Final = 1.0
_SHARE: Final = 0.1  # of the time, for looking whether all that waits is known to Redis


class Upkeep:
    """Passes of the reconciler in one thread; in the other, watching workers: who looks late sees the dead late."""

    def __init__(self, configured: Settings, database: Database, doorbell: Doorbell) -> None:
        self.reconciler = Reconciler(database, doorbell, horizon=configured.clock_horizon)
        self._database = database
        self._pause = configured.reconcile_seconds
        self._pace = Pace(_SHARE)
        self._is_looking = False
        self._next_pass = self._troubled_until = 0.0
        self._ended = threading.Event()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="upkeep")
        self._running: list[Future[None]] = []

    def start(self) -> None:
        """Begin."""
        self._running = [self._threads.submit(work) for work in (self._reconcile, self._watch_workers)]

    @property
    def has_ended(self) -> bool:
        """Whether some of it has stopped by itself, which it should not."""
        return any(future.done() for future in self._running)

    def hurry(self) -> None:
        """There was an outage: a pass is due now, and soon again for a while."""
        self._troubled_until = time.monotonic() + _AFTERMATH_SECONDS
        self._next_pass = 0.0

    def stop(self) -> None:
        """End, after the step that is under way."""
        self._ended.set()
        self._threads.shutdown(wait=True)

    def check(self) -> None:
        """Raise what made some of it stop by itself, if anything did."""
        for future in self._running:
            future.result()

    def _reconcile(self) -> None:
        rest = 0.0
        while not self._ended.wait(rest):
            try:
                rest = self._turn()
            except (Unavailable, RedisError, OSError) as error:
                log.warning("cannot reconcile, trying again", reason=str(error))
                self.hurry()
                rest = _PAUSE_SECONDS

    def _turn(self) -> float:
        """A pass, when it is time for one, or some of the looking in between; returns seconds until the next turn."""
        now = time.monotonic()
        if now >= self._next_pass:
            # First, so that who is in a hurry meanwhile gets another one.
            self._next_pass = now + (self._pause if now > self._troubled_until else min(self._pause, _SOON_SECONDS))
            statistics.fold(self._database)
            if self.reconciler.run_once().has_more:
                self._next_pass = 0.0
            self._is_looking = True
        elif self._is_looking and not self._pace.rest:
            with self._pace.at_work():
                self._is_looking = self.reconciler.look_on()
        until_pass = max(0.0, self._next_pass - time.monotonic())
        return min(until_pass, self._pace.rest if self._is_looking else _SOON_SECONDS)

    def _watch_workers(self) -> None:
        while not self._ended.wait(WATCH_SECONDS):
            try:
                self.reconciler.watch_workers()
            except (Unavailable, RedisError, OSError) as error:
                log.warning("cannot watch the workers, trying again", reason=str(error))
