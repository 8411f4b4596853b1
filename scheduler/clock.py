"""rq-scheduler as a clock: it carries when tasks are due; PostgreSQL remembers what is due.

Its own loop is replaced where it is unsafe: the lock is only ever released by its owner,
signals end the loop between two steps, and an entry is removed after its task was announced.
What is due is due by PostgreSQL's clock: this machine's is only believed to go as fast.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from types import FrameType
from typing import Any

import structlog
from rq_scheduler import Scheduler

from jobs.queues import TaskJob, TaskQueue

log = structlog.get_logger(__name__)

_LOCK_SECONDS = 10
_LEAST_WAIT = 0.02
_BELIEVED_SECONDS = 10.0  # for which the difference of two clocks is not looked at again
_RENEW_OR_TAKE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2]) and 1 or 0
"""
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Clock(Scheduler):
    """Says when something is due, to one process of possibly many."""

    job_class = TaskJob
    queue_class = TaskQueue

    def __init__(self, connection: Any, *, interval: float, name: str) -> None:
        super().__init__(connection=connection, interval=interval, name=name)
        self._stopping = threading.Event()
        self._difference = 0.0  # PostgreSQL's clock, less this machine's
        self._believed_until = 0.0
        self._renew_or_take = connection.register_script(_RENEW_OR_TAKE)
        self._release = connection.register_script(_RELEASE)

    def acquire_lock(self) -> bool:
        """Take the lock, or renew it where it is ours already."""
        self._lock_acquired = bool(self._renew_or_take(keys=[self.scheduler_lock_key], args=[self.name, _LOCK_SECONDS]))
        return self._lock_acquired

    def remove_lock(self) -> None:
        """Give the lock back if it is still ours."""
        self._release(keys=[self.scheduler_lock_key], args=[self.name])
        self._lock_acquired = False

    def stop_on_signals(self, grace: float) -> None:
        """Have SIGTERM and SIGINT end the loop at its next turn, and the process within `grace` seconds."""
        asked, asking = os.pipe()
        os.set_blocking(asking, False)

        def ask(_signum: int, _frame: FrameType | None) -> None:
            # Nothing that takes a lock, as setting an event or starting a thread does: it would be waited for in vain
            # where the code that was interrupted holds it.
            with suppress(BlockingIOError):
                os.write(asking, b"!")

        def stop() -> None:
            os.read(asked, 1)
            self._stopping.set()
            # A step that hangs in the database or Redis must not keep the process.
            time.sleep(grace)
            os._exit(1)

        threading.Thread(target=stop, name="signals", daemon=True).start()
        signal.signal(signal.SIGINT, ask)
        signal.signal(signal.SIGTERM, ask)

    @property
    def stopping(self) -> bool:
        """Whether a signal asked this process to end."""
        return self._stopping.is_set()

    def enqueue_jobs(self, on_due: Callable[[], datetime | None]) -> None:
        """When something is due: call `on_due`, and forget the entries that said so.

        `on_due` answers with the time, by PostgreSQL's clock, up to which everything has been announced; with None when
        there is more: then it is called again the next time.
        """
        is_believed = time.monotonic() < self._believed_until
        if is_believed and not self.connection.zcount(self.scheduled_jobs_key, "-inf", self._now()):
            return
        began = time.time()
        announced_until = on_due()
        if announced_until is not None:
            until = announced_until.timestamp()
            self._difference = until - began
            self._believed_until = time.monotonic() + _BELIEVED_SECONDS
            self.connection.zremrangebyscore(self.scheduled_jobs_key, "-inf", until)

    def wait(self, seconds: float) -> None:
        """Wait, or until told to stop."""
        self._stopping.wait(seconds)

    def pause(self) -> None:
        """Wait one interval, or until the next due time, or until told to stop."""
        upcoming = self.connection.zrange(self.scheduled_jobs_key, 0, 0, withscores=True)
        until_next = upcoming[0][1] - self._now() if upcoming else self._interval
        self.wait(min(self._interval, max(until_next, _LEAST_WAIT)))

    def _now(self) -> float:
        """The time as PostgreSQL has it, nearly."""
        return time.time() + self._difference
