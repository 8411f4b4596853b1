"""Finds tasks that should be waiting in Redis and are not, by calling the roll of all that wait.

An id is lost with the worker that took it and died before it claimed the task, with the process that stored a task and
died before it announced it, or with Redis's data. Nothing tells which, so all are compared, a page at a time: from the
oldest on, in each queue by itself, so that a long one does not hold up the others. Once all of a queue has been called,
`begin` starts again with it.
"""

import time
from collections import deque
from datetime import UTC, datetime
from typing import Final, cast

from jobs.priority import QUEUES, QueueName
from jobs.queues import Doorbell
from jobs.store.database import Database

_GRACE_SECONDS: Final = 2.0  # an id may be on its way between PostgreSQL, Redis and a worker for so long
_PAGE: Final = 500  # rows compared at once: each may lie in a page of its own
_FEW: Final = 100  # so many may be on their way to a worker, or have been lost with one: that is no emptied Redis
_BEGINNING: Final = (datetime.min.replace(tzinfo=UTC), 0)

Place = tuple[datetime, int]
"""When a task was announced, and its id: what the roll is in the order of."""


class RollCall:
    """Calls the roll, and announces what is missing. All methods raise `Unavailable` and `RedisError`."""

    def __init__(self, database: Database, doorbell: Doorbell) -> None:
        self._database = database
        self._doorbell = doorbell
        self._open: deque[tuple[QueueName, Place]] = deque()  # queues that are called now, each with how far

    @property
    def is_over(self) -> bool:
        """Whether all of every queue has been called."""
        return not self._open

    def begin(self) -> None:
        """Have those queues that have been called to their end called once more, the most urgent ones first."""
        called = {queue for queue, _ in self._open}
        self._open.extendleft((queue, _BEGINNING) for queue in reversed(QUEUES) if queue not in called)

    def go_on(self, patience: float) -> tuple[int, bool]:
        """Call a page of each queue; more, for about so many seconds, as long as much is missing.

        Returns:
            How many were missing, and have been announced; whether there would have been more.
        """
        began, count = time.monotonic(), 0
        while True:
            found = sum(self._call_next() for _ in range(len(self._open)))
            count += found
            if found <= _FEW:
                return count, False
            if time.monotonic() - began >= patience:
                return count, True

    def _call_next(self) -> int:
        queue, place = self._open[0]
        found, reached = self._call(queue, place)
        self._open.popleft()  # not before: what failed is to be called again
        if reached:
            self._open.append((queue, reached))
        return found

    def _call(self, queue: QueueName, after: Place) -> tuple[int, Place | None]:
        """Call the page after a place; returns how many were missing, and where it ends, None for the last one."""
        page = self._database.all(
            "announced",
            {"queue": queue, "after": after[0], "after_id": after[1], "grace": _GRACE_SECONDS, "limit": _PAGE},
        )
        count = 0
        if missing := self._doorbell.missing(page):
            marked = self._database.all("announce_again", {"ids": missing})
            self._doorbell.announce(sorted(marked, key=lambda task: cast(int, task["id"])))
            count = len(marked)
        is_last = sum(len(place["ids"]) for place in page) < _PAGE
        return count, None if is_last else (page[0]["last_at"], page[0]["last_id"])
