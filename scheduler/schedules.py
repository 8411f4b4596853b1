"""Schedules as callers manage them: created, changed, removed, and carried by the clock."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from jobs.errors import StateConflict, found
from jobs.handlers.registry import TaskType
from jobs.queues import Doorbell, RedisError
from jobs.settings import Settings
from jobs.store.database import Database, Json, Row
from scheduler.firing import execution_of, note_slots
from scheduler.planner import timetable_of

log = structlog.get_logger(__name__)

_TOLERANCE_SECONDS = 0.001  # a score in Redis is a float

# Every installation has these from its first start; they can be changed and paused, not removed.
_BUILTIN = {
    "database_backup": {"name": "Database backup", "cron_expression": "0 2 * * *"},
    "cleanup": {"name": "Clean-up", "cron_expression": "30 3 * * *"},
}


class Schedules:
    """Keeps schedules in PostgreSQL and their next slots in the clock."""

    def __init__(
        self, settings: Settings, types: Mapping[str, TaskType], database: Database, doorbell: Doorbell
    ) -> None:
        self._settings = settings
        self._types = types
        self._database = database
        self._doorbell = doorbell

    def get(self, schedule_id: int) -> Row:
        """A schedule's row; `NotFound` when there is none."""
        return found(self._database.one("get_schedule", {"id": schedule_id}), "schedule", schedule_id)

    def create(self, wanted: Mapping[str, Any], builtin: str | None = None) -> Row | None:
        """Store a checked schedule; None when a built-in one is there already."""
        now = datetime.now(UTC)
        facts = {**wanted, "builtin": builtin, "anchor": anchor_of(wanted, now)}
        row = self._database.one("insert_schedule", _prepared(facts, now))
        if row:
            self._carry(row)
        return row

    def change(self, schedule_id: int, change: Mapping[str, Any]) -> Row:
        """Store changed facts of a schedule; its slots are counted anew when its times changed.

        Raises:
            NotFound: there is none.
        """
        now = datetime.now(UTC)
        with self._database.transaction() as session:
            found(session.one("lock_schedule", {"id": schedule_id}), "schedule", schedule_id)
            # What passed until now passed under the old terms.
            note_slots(session, session.all("due_schedules", {"late": 0, "limit": 1, "id": schedule_id}))
            row = found(session.one("get_schedule", {"id": schedule_id}), "schedule", schedule_id)
            facts = {**row, **change}
            facts = _prepared({**facts, "anchor": anchor_of(facts, now, row)}, now)
            changed = session.one("update_schedule", facts)
            assert changed  # noqa: S101 - it is locked
        self._carry(changed)
        return changed

    def delete(self, schedule_id: int) -> None:
        """Remove a schedule; its executions stay.

        Raises:
            NotFound: there is none.
            StateConflict: it is built in.
        """
        self.get(schedule_id)
        if not self._database.all("delete_schedule", {"id": schedule_id}):
            raise StateConflict("Built-in schedules can be changed and paused, but not deleted.")
        try:
            self._doorbell.drop_schedules([schedule_id])
        except RedisError as error:
            log.warning("clock not told", schedule_id=schedule_id, reason=str(error))

    def by_hand(self, schedule_id: int) -> int:
        """Note a firing by hand, also of a paused schedule; returns the execution's id."""
        schedule = self.get(schedule_id)
        document = {
            **execution_of(schedule, "manual"),
            "scheduled_for": datetime.now(UTC),
            "status": "PENDING",
        }
        with self._database.transaction() as session:
            (execution,) = session.all("insert_executions", {"documents": Json([document])})
            session.all("ran_by_hand", {"id": schedule_id})
        return int(execution["id"])

    def add_builtin(self) -> None:
        """Make the schedules that every installation has, once."""
        known = {row["builtin"] for row in self._database.all("builtin_schedules")}
        for executor, facts in _BUILTIN.items():
            if executor in known:
                continue  # an INSERT in vain would use an id up
            self.create({**DEFAULTS, **facts, "task_type": executor, "timezone": self._settings.tz_default}, executor)

    def compare_with_clock(self) -> None:
        """Add and replace entries until the clock carries all that PostgreSQL says.

        Nobody looks for entries of schedules that are gone, among those of a million tasks perhaps: they ring once, in
        vain, and have gone, too.
        """
        (entries,) = self._database.all("clock_entries")
        wanted = dict(zip(entries["ids"], entries["times"], strict=True))
        carried = self._doorbell.carried_schedules(wanted)
        missing = {
            number: due for number, due in wanted.items() if abs(carried.get(number, 0.0) - due) > _TOLERANCE_SECONDS
        }
        if missing:
            self._doorbell.carry_schedules(missing)
            log.debug("clock compared", added=len(missing))

    def _carry(self, row: Row) -> None:
        try:
            carry(self._doorbell, {row["id"]: row["next_slot"]})
        except RedisError as error:
            log.warning("clock not told", schedule_id=row["id"], reason=str(error))


def anchor_of(facts: Mapping[str, Any], now: datetime, before: Mapping[str, Any] | None = None) -> datetime:
    """What the intervals of a schedule with these facts are counted from: anew, unless they are as they were before."""
    if before and all(facts[name] == before[name] for name in ("interval", "interval_unit", "starts_at")):
        anchor: datetime = before["anchor"]
        return anchor
    return facts.get("starts_at") or now


def carry(doorbell: Doorbell, slots: Mapping[int, datetime | None]) -> None:
    """Have the clock carry schedules' next slots, and forget those that have none; raises `RedisError`."""
    doorbell.carry_schedules({number: slot.timestamp() for number, slot in slots.items() if slot})
    if over := [number for number, slot in slots.items() if not slot]:
        doorbell.drop_schedules(over)


DEFAULTS: dict[str, Any] = {
    "description": "",
    "cron_expression": None,
    "interval": None,
    "interval_unit": None,
    "params": {},
    "is_active": True,
    "misfire_policy": "fire_once",
    "overlap_policy": "skip",
    "starts_at": None,
    "ends_at": None,
}


def _prepared(facts: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Parameters for the statements, with the next slot computed."""
    # An interval begins with its first period, not at once; starts_at itself is a slot.
    after = now if not facts["starts_at"] or facts["starts_at"] < now else now - timedelta(microseconds=1)
    return {**facts, "params": Json(facts["params"]), "next_slot": timetable_of(facts).next_slot(after)}
