"""The scheduler process: the clock and the reconciler. `python -m scheduler`."""

import os
import socket
import time
from uuid import uuid4

import structlog

from jobs import logs, settings
from jobs.errors import Unavailable
from jobs.queues import Doorbell, RedisError, connect
from jobs.reconcile import Reconciler
from jobs.settings import Settings
from jobs.store.database import Database
from jobs.worker import BEAT_SECONDS
from scheduler.clock import Clock

log = structlog.get_logger(__name__)

_PAUSE_SECONDS = 0.5


class Process:
    """The loop that drives clock and reconciler, and beats."""

    def __init__(self, configured: Settings) -> None:
        self._settings = configured
        self._name = f"scheduler-{socket.gethostname().partition('.')[0]}-{os.getpid()}-{uuid4().hex[:6]}"
        self._database = Database(configured.database_url, max_size=2)
        connection = connect(configured.redis_url)
        self._reconciler = Reconciler(self._database, Doorbell(connection))
        self._clock = Clock(
            connection,
            interval=configured.scheduler_tick_seconds,
            name=self._name,
            reconciler=self._reconciler,
        )
        self._id: int | None = None
        self._next_beat = 0.0
        self._next_pass = 0.0

    def run(self) -> None:
        """Until SIGTERM or SIGINT."""
        self._clock.stop_on_signals()
        self._database.open()
        try:
            while not self._clock.stopping:
                try:
                    self._step()
                    self._clock.pause()
                except (Unavailable, RedisError, OSError) as error:
                    log.warning("scheduler cannot work, trying again", reason=str(error))
                    self._clock.wait(_PAUSE_SECONDS)
        finally:
            self._sign_off()
            self._database.close()

    def _step(self) -> None:
        now = time.monotonic()
        if now >= self._next_beat:
            self._next_beat = now + BEAT_SECONDS
            self._beat()
        if self._clock.acquire_lock():
            self._clock.enqueue_jobs()
        if now >= self._next_pass:
            self._next_pass = now + self._settings.reconcile_seconds
            self._reconciler.run_once()

    def _beat(self) -> None:
        if self._id is not None and self._database.all("beat", {"id": self._id, "running": 0}):
            return
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
            self._clock.remove_lock()
            self._database.all("sign_off", {"id": self._id})
        except (Unavailable, RedisError, OSError) as error:
            log.warning("scheduler could not sign off", reason=str(error))


def main() -> int:
    """Start the scheduler as the settings say."""
    configured = settings.load_or_exit()
    logs.configure(configured, "scheduler")
    Process(configured).run()
    log.info("scheduler stopped")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
