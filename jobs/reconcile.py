"""Puts right what time and failure leave behind, by comparing PostgreSQL with the world.

- Tasks of workers that stopped beating wait again, or fail as `worker_lost`.
- Tasks whose time has come are announced, also when the clock in Redis lost them.
- Waiting tasks that Redis does not know (it was emptied, or a worker died with them) are announced again.
- Children of parents that have ended are released, and batches whose tasks have ended are closed.

Every step may run at any time, twice, or in several processes at once.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, cast

import structlog

from jobs import hooks
from jobs.beats import BEAT_SECONDS, LEASE_SECONDS, WATCH_SECONDS
from jobs.errors import WORKER_LOST
from jobs.followups import Followups
from jobs.live import tell
from jobs.queues import Doorbell, Due
from jobs.store.database import Database, Json, Params

log = structlog.get_logger(__name__)

_GRACE_SECONDS: Final = 2.0  # an id may be on its way between PostgreSQL, Redis and a worker for so long
_HORIZON_SECONDS: Final = 60.0  # how far ahead the clock is filled
_LIMIT: Final = 5000  # rows in one statement
_PAGE: Final = 2000  # rows compared with Redis in one pass: each may lie in a page of its own
_BEGINNING: Final = (datetime.min.replace(tzinfo=UTC), 0)
_KEEP_IDEMPOTENCY_HOURS: Final = 24
_MOST_TOLD: Final = 100  # ids in a log line


@dataclass(slots=True)
class Report:
    """What one pass did: numbers of tasks."""

    recovered: int = 0
    lost: int = 0
    due: int = 0
    unheard: int = 0


class Reconciler:
    """One pass after another.

    Which workers are dead is judged by this process's own clock: a heartbeat that it has seen unchanged for a
    whole lease. So neither an outage of PostgreSQL, in which nobody could beat, nor a clock that jumps, nor a
    machine that slept, makes the living look dead.
    """

    def __init__(self, database: Database, doorbell: Doorbell, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._doorbell = doorbell
        self._followups = Followups(database, doorbell)
        self._clock = clock
        self._page_after = _BEGINNING
        self._seen: dict[int, tuple[datetime, float]] = {}  # worker -> its last beat, when that was first seen
        self._looked = clock()

    def run_once(self) -> Report:
        """One pass over everything but the workers.

        Raises:
            Unavailable, RedisError: PostgreSQL or Redis is away; the next pass finds the rest.
        """
        report = Report(due=self.announce_due())
        self.fill_clock()
        report.unheard = self._announce_unheard()
        self._followups.release()
        self._followups.close()
        self._database.all("forget_idempotency_keys", {"keep_hours": _KEEP_IDEMPOTENCY_HOURS})
        self._database.all("forget_workers")
        if report != Report():
            log.info("reconciled", due=report.due, unheard=report.unheard)
        return report

    def watch_workers(self) -> Report:
        """Give up workers that stopped beating, and put the tasks of stopped workers right; raises like `run_once`."""
        now = self._clock()
        if now - self._looked > WATCH_SECONDS + BEAT_SECONDS:
            self._seen = {}  # whoever could not look for so long, as the database was away, starts anew
        found = self._database.all("heartbeats")
        beats = {row["id"]: row["last_heartbeat"] for row in found if row["id"]}
        self._seen = {
            worker: seen if (seen := self._seen.get(worker)) and seen[0] == beat else (beat, now)
            for worker, beat in beats.items()
        }
        self._looked = now
        dead = [worker for worker, (_, since) in self._seen.items() if now - since >= LEASE_SECONDS]
        if not dead and not found[0]["has_lost"]:
            return Report()
        with self._database.transaction() as session:
            # First, so that none of them can beat or claim once its tasks are taken away.
            gone = session.all("give_up_workers", {"ids": dead}) if dead else []
            moved = session.all("recover_lost", {"error": Json(WORKER_LOST.as_json())})
            hooks.run(session, moved)
        tell(self._doorbell.connection, moved)
        for process in gone:
            log.warning("stopped beating", kind=process["kind"], worker=process["name"])
        waiting = [task for task in moved if task["status"] == "PENDING"]
        report = Report(recovered=len(waiting), lost=len(moved) - len(waiting))
        if moved:
            task_ids = [task["id"] for task in moved[:_MOST_TOLD]]
            log.warning("tasks of lost workers", recovered=report.recovered, ended=report.lost, task_ids=task_ids)
        self._doorbell.announce(waiting)
        self._doorbell.bury(process["name"] for process in gone)
        self._followups.after(moved)
        return report

    def announce_due(self) -> int:
        """Put tasks whose time has come on their queues; returns how many."""
        return self._announce_all("take_due", {})

    def fill_clock(self) -> None:
        """Make sure the clock carries what becomes due soon."""
        upcoming = self._database.all("upcoming", {"horizon": _HORIZON_SECONDS, "limit": _LIMIT})
        self._doorbell.announce_later(Due(row["id"], row["queue"], row["due_at"]) for row in upcoming)

    def _announce_unheard(self) -> int:
        """Compare tasks that should be waiting in Redis with those that are, and announce what is missing.

        A page of them in each pass, beginning where the last one ended; more as long as something is missing.
        """
        count = 0
        while True:
            after, after_id = self._page_after
            page = self._database.all(
                "announced", {"after": after, "after_id": after_id, "grace": _GRACE_SECONDS, "limit": _PAGE}
            )
            is_last = sum(len(place["ids"]) for place in page) < _PAGE
            self._page_after = _BEGINNING if is_last else (page[0]["last_at"], page[0]["last_id"])
            missing = self._doorbell.missing(page)
            if missing:
                marked = self._database.all("announce_again", {"ids": missing})
                self._doorbell.announce(sorted(marked, key=lambda task: cast(int, task["id"])))
                count += len(marked)
            if is_last or not missing:
                return count

    def _announce_all(self, query: str, parameters: Params) -> int:
        """Announce what the query marks and returns, a limited number at a time."""
        count = 0
        while True:
            found = self._database.all(query, {**parameters, "limit": _LIMIT})
            self._doorbell.announce(found)
            count += len(found)
            if len(found) < _LIMIT:
                return count
