"""The scheduler process: the clock, the schedules and the reconciler. `python -m scheduler`.

Any number may run. The one that holds the lock acts at once; the others look half a second later, so
that a slot is fired in time also when the first one has just died.
"""

import os
import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor
from uuid import uuid4

import structlog

from jobs import logs, settings
from jobs.beats import BEAT_SECONDS
from jobs.errors import SettingsError, Unavailable
from jobs.handlers import registry
from jobs.queues import Doorbell, RedisError, connect
from jobs.settings import Settings
from jobs.store.database import Database
from jobs.submit import Submitter
from scheduler.alerts.watch import Watch
from scheduler.clock import Clock
from scheduler.firing import Firer
from scheduler.schedules import Schedules, carry
from scheduler.upkeep import THREADS, Upkeep

log = structlog.get_logger(__name__)

_PAUSE_SECONDS = 0.5
_STANDBY_SECONDS = 0.5  # how much later a process without the lock looks
_COMPARE_SECONDS = 10.0  # between comparisons of PostgreSQL's schedules with the clock's entries
_FIRING_THREADS = 4
_READY_LIMIT = 1000
_MOST_TOGETHER = 25
_BUSY_SECONDS = 0.05  # between looks while there is more to fire


class Process:
    """The loop that drives clock and firings, and beats; the reconciler works beside it."""

    def __init__(self, configured: Settings) -> None:
        self._settings = configured
        self._name = f"scheduler-{socket.gethostname().partition('.')[0]}-{os.getpid()}-{uuid4().hex[:6]}"
        types = registry.load(configured.handler_modules)
        self._database = Database(configured.database_url, max_size=1 + _FIRING_THREADS + THREADS)
        connection = connect(configured.redis_url)
        self._doorbell = doorbell = Doorbell(connection)
        self._upkeep = Upkeep(configured, self._database, doorbell)
        self._firer = Firer(self._database, Submitter(configured, types, self._database, doorbell), types)
        self._schedules = Schedules(configured, types, self._database, doorbell)
        self._clock = Clock(connection, interval=configured.scheduler_tick_seconds, name=self._name)
        self._watch = Watch(configured, self._name)
        self._threads = ThreadPoolExecutor(_FIRING_THREADS, thread_name_prefix="firing")
        self._firing: dict[int, Future[None]] = {}
        self._id: int | None = None
        self._next_beat = self._next_compare = 0.0

    def run(self) -> None:
        """Until SIGTERM or SIGINT."""
        self._clock.stop_on_signals(self._settings.shutdown_grace_seconds)
        self._database.open()
        self._watch.start()
        self._upkeep.start()
        try:
            while not self._clock.stopping and not self._upkeep.has_ended:
                try:
                    self._step()
                    if self._firing:
                        self._clock.wait(_BUSY_SECONDS)
                    else:
                        self._clock.pause()
                except (Unavailable, RedisError, OSError) as error:
                    log.warning("scheduler cannot work, trying again", reason=str(error))
                    self._next_compare = 0.0
                    self._upkeep.hurry()
                    self._clock.wait(_PAUSE_SECONDS)
        finally:
            # A firing is one transaction: what does not end in time is done by the next process.
            self._threads.shutdown(wait=True, cancel_futures=True)
            self._upkeep.stop()
            self._sign_off()
            self._watch.stop()
            self._database.close()
        self._upkeep.check()

    def _step(self) -> None:
        now = time.monotonic()
        if now >= self._next_beat:
            self._next_beat = now + BEAT_SECONDS
            self._beat()
        try:
            acting = self._clock.acquire_lock()
            if acting:
                self._clock.enqueue_jobs(self._upkeep.reconciler.announce_due)
        except RedisError:
            # Schedules do not need Redis to fire in time.
            self._fire_due(_STANDBY_SECONDS)
            raise
        self._fire_due(0.0 if acting else _STANDBY_SECONDS)
        if acting and now >= self._next_compare:
            self._next_compare = now + _COMPARE_SECONDS
            self._schedules.compare_with_clock()

    def _fire_due(self, late: float) -> None:
        self._firing = {number: future for number, future in self._firing.items() if not future.done()}
        if not self._firer.has_work(late):
            return
        following = self._firer.note_due(late)
        fresh = [number for number in self._firer.ready(_READY_LIMIT) if number not in self._firing]
        # Few are fired side by side, many in groups: a group shares its round trips and its commit.
        size = min(_MOST_TOGETHER, -(-len(fresh) // _FIRING_THREADS)) or 1
        for start in range(0, len(fresh), size):
            group = fresh[start : start + size]
            future = self._threads.submit(self._fire, group)
            self._firing |= dict.fromkeys(group, future)
        if following:
            carry(self._doorbell, following)

    def _fire(self, group: list[int]) -> None:
        try:
            self._firer.fire(group)
        except Unavailable as error:
            log.warning("not fired yet", executions=len(group), reason=str(error))

    def _beat(self) -> None:
        if self._id is not None and self._database.all("beat", {"id": self._id, "running": 0}):
            return
        self._schedules.add_builtin()
        rows = self._database.all(
            "register_worker",
            {
                "kind": "scheduler", "name": self._name, "host": socket.gethostname(), "pid": os.getpid(),
                "queues": [], "capacity": 0,
            },
        )  # fmt: skip
        self._id = rows[0]["id"]
        log.info("scheduler ready", scheduler=self._name)

    def _sign_off(self) -> None:
        try:
            self._database.all("sign_off", {"id": self._id})
            self._clock.remove_lock()
        except (Unavailable, RedisError, OSError) as error:
            log.warning("scheduler could not sign off", reason=str(error))


def main() -> int:
    """Start the scheduler as the settings say."""
    configured = settings.load_or_exit()
    logs.configure(configured, "scheduler")
    # rq-scheduler computes with local times in places.
    settings.use_utc()
    try:
        Process(configured).run()
    except SettingsError as error:
        settings.fail(error)
    log.info("scheduler stopped")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
