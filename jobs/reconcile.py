"""Puts right what time and failure leave behind, by comparing PostgreSQL with the world.

- Tasks of workers that stopped beating wait again, or fail as `worker_lost`.
- Tasks whose time has come are announced, also when the clock in Redis lost them.
- Waiting tasks that Redis does not know (it was emptied, or a worker died with them) are announced again.

Every step may run at any time, twice, or in several processes at once.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from jobs.errors import WORKER_LOST, Unavailable
from jobs.priority import QUEUES, QueueName
from jobs.queues import Doorbell, Due
from jobs.store.database import Database, Json, Params
from jobs.worker import LEASE_SECONDS

log = structlog.get_logger(__name__)

_GRACE_SECONDS: Final = 2.0  # an id may be on its way between PostgreSQL, Redis and a worker for so long
_HORIZON_SECONDS: Final = 60.0  # how far ahead the clock is filled
_LIMIT: Final = 5000  # rows in one statement
_HEAD_PAGE: Final = 200
_KEEP_IDEMPOTENCY_HOURS: Final = 24


@dataclass(slots=True)
class Report:
    """What one pass did: numbers of tasks."""

    recovered: int = 0
    lost: int = 0
    due: int = 0
    unheard: int = 0


class Reconciler:
    """One pass after another; keeps nothing but the moment since which PostgreSQL has answered."""

    def __init__(self, database: Database, doorbell: Doorbell, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._doorbell = doorbell
        self._clock = clock
        self._trusted_after = 0.0

    def run_once(self) -> Report:
        """One pass.

        Raises:
            Unavailable, RedisError: PostgreSQL or Redis is away; the next pass finds the rest.
        """
        report = Report()
        try:
            # While PostgreSQL was away nobody could beat: that says nothing about the workers.
            if self._clock() >= self._trusted_after:
                self._recover(report)
            report.due = self.announce_due()
            self.fill_clock()
            report.unheard = sum(self._announce_unheard(queue) for queue in QUEUES)
            self._database.all("forget_idempotency_keys", {"keep_hours": _KEEP_IDEMPOTENCY_HOURS})
        except Unavailable:
            self._trusted_after = self._clock() + LEASE_SECONDS
            raise
        if report != Report():
            log.info(
                "reconciled",
                recovered=report.recovered,
                lost=report.lost,
                due=report.due,
                unheard=report.unheard,
            )
        return report

    def _recover(self, report: Report) -> None:
        lease = {"lease": LEASE_SECONDS}
        with self._database.transaction() as session:
            moved = session.all("recover_lost", {**lease, "error": Json(WORKER_LOST.as_json())})
            gone = session.all("give_up_workers", lease)
            session.all("forget_workers")
        for process in gone:
            log.warning("stopped beating", kind=process["kind"], worker=process["name"])
        waiting = [task for task in moved if task["status"] == "PENDING"]
        self._doorbell.announce(waiting)
        report.recovered = len(waiting)
        report.lost = len(moved) - len(waiting)

    def announce_due(self) -> int:
        """Put tasks whose time has come on their queues; returns how many."""
        return self._announce_all("take_due", {})

    def fill_clock(self) -> None:
        """Make sure the clock carries what becomes due soon."""
        upcoming = self._database.all("upcoming", {"horizon": _HORIZON_SECONDS, "limit": _LIMIT})
        self._doorbell.announce_later(Due(row["id"], row["queue"], row["due_at"]) for row in upcoming)

    def _announce_unheard(self, queue: QueueName) -> int:
        parameters = {"queue": queue, "head": self._head(queue), "grace": _GRACE_SECONDS}
        return self._announce_all("take_unheard", parameters)

    def _announce_all(self, query: str, parameters: Params) -> int:
        """Announce what the query marks and returns, a limited number at a time."""
        count = 0
        while True:
            found = self._database.all(query, {**parameters, "limit": _LIMIT})
            self._doorbell.announce(found)
            count += len(found)
            if len(found) < _LIMIT:
                return count

    def _head(self, queue: QueueName) -> int | None:
        """The first id in the queue that still waits; ids of cancelled tasks may stand before it."""
        start = 0
        while entries := self._doorbell.ids(queue, start, _HEAD_PAGE):
            waiting = {row["id"] for row in self._database.all("waiting_among", {"ids": entries})}
            for task_id in entries:
                if task_id in waiting:
                    return task_id
            start += _HEAD_PAGE
        return None
