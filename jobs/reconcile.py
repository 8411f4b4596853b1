"""Puts right what time and failure leave behind, by comparing PostgreSQL with the world.

- Tasks of workers that stopped beating wait again, or fail as `worker_lost`.
- Tasks whose time has come are announced, also when the clock in Redis lost them.
- Waiting tasks that Redis does not know (it was emptied, or a worker died with them) are announced again.
- Children of parents that have ended are released, and batches whose tasks have ended are closed.

Every step may run at any time, twice, or in several processes at once. However much there is to do, a pass does some of
it and says that there is more, so that whoever runs it can be stopped in between.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog

from jobs import hooks
from jobs.beats import BEAT_SECONDS, LEASE_SECONDS, WATCH_SECONDS
from jobs.errors import WORKER_LOST
from jobs.followups import Followups
from jobs.live import tell
from jobs.queues import Doorbell, Due
from jobs.rollcall import RollCall
from jobs.store.database import Database, Json

log = structlog.get_logger(__name__)

_PATIENCE_SECONDS: Final = 0.5  # for one step, where there is much to do
_LIMIT: Final = 5000  # rows in one statement
_KEEP_IDEMPOTENCY_HOURS: Final = 24
_MOST_TOLD: Final = 100  # ids in a log line


@dataclass(slots=True)
class Report:
    """What one pass did: numbers of tasks; and whether it left something for another one at once."""

    recovered: int = 0
    lost: int = 0
    due: int = 0
    unheard: int = 0
    has_more: bool = False


class Reconciler:
    """One pass after another.

    Which workers are dead is judged by this process's own clock: a heartbeat that it has seen unchanged for a
    whole lease. So neither an outage of PostgreSQL, in which nobody could beat, nor a clock that jumps, nor a
    machine that slept, makes the living look dead.
    """

    def __init__(
        self,
        database: Database,
        doorbell: Doorbell,
        *,
        horizon: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`horizon`: for how many seconds ahead the clock in Redis is filled."""
        self._database = database
        self._doorbell = doorbell
        self._followups = Followups(database, doorbell)
        self._roll_call = RollCall(database, doorbell)
        self._horizon = horizon
        self._clock = clock
        self._filled_until = datetime.max.replace(tzinfo=UTC)
        self._seen: dict[int, tuple[datetime, float]] = {}  # worker -> its last beat, when that was first seen
        self._looked = clock()

    def run_once(self) -> Report:
        """One pass over everything but the workers.

        Raises:
            Unavailable, RedisError: PostgreSQL or Redis is away; the next pass finds the rest.
        """
        due, until = self._announce_due()
        self.fill_clock()
        self._roll_call.begin()
        unheard, has_more = self._roll_call.go_on(_PATIENCE_SECONDS)
        is_released = self._followups.release(_PATIENCE_SECONDS).is_all
        self._followups.close()
        self._database.all("forget_idempotency_keys", {"keep_hours": _KEEP_IDEMPOTENCY_HOURS})
        self._database.all("forget_workers")
        report = Report(due=due, unheard=unheard, has_more=has_more or until is None or not is_released)
        if due or unheard:
            log.info("reconciled", due=due, unheard=unheard)
        return report

    def look_on(self) -> bool:
        """Between passes: look at more of what waits; returns whether there is still more to look at.

        So a pass takes no longer while a million tasks wait. Raises like `run_once`.
        """
        unheard, _ = self._roll_call.go_on(_PATIENCE_SECONDS)
        if unheard:
            log.info("reconciled", due=0, unheard=unheard)
        return not self._roll_call.is_over

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

    def announce_due(self) -> datetime | None:
        """Put tasks whose time has come on their queues.

        Returns:
            By when, on PostgreSQL's clock, they were due; None when there are more, for another call.
        """
        _, until = self._announce_due()
        if until and until >= self._filled_until:
            self.fill_clock()  # with what it had no room for
        return until

    def fill_clock(self) -> None:
        """Make sure the clock carries what becomes due soon."""
        upcoming = self._database.all("upcoming", {"horizon": self._horizon, "limit": _LIMIT})
        self._doorbell.announce_later(Due(row["id"], row["queue"], row["due_at"]) for row in upcoming)
        is_whole = len(upcoming) < _LIMIT
        self._filled_until = datetime.max.replace(tzinfo=UTC) if is_whole else upcoming[-1]["due_at"]

    def _announce_due(self) -> tuple[int, datetime | None]:
        """Announce what is due, a limited number at a time; how many that were, and what `announce_due` returns."""
        began = time.monotonic()
        moment = self._database.all("moment")[0]["now"]
        count = 0
        while True:
            found = self._database.all("take_due", {"moment": moment, "limit": _LIMIT})
            self._doorbell.announce(found)
            count += len(found)
            if len(found) < _LIMIT:
                return count, moment
            if time.monotonic() - began > _PATIENCE_SECONDS:
                return count, None
