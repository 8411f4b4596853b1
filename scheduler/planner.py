"""What becomes of the slots that have passed: fired, or skipped with the reason. Pure."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final
from zoneinfo import ZoneInfo

from scheduler.timetable import UNITS, Timetable

GRACE: Final = timedelta(seconds=10)
"""A slot that is looked at this late was missed: the misfire policy decides about it."""

MOST_FIRED: Final = 100
"""Missed slots that `fire_all` fires at the most; the newest."""

MOST_NOTED: Final = 1000
"""Slots noted one by one in one go; what is beyond becomes one note."""

_MISSED: Final = "The slot passed while nothing ran"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one slot; `reason` is None when it is fired."""

    slot: datetime
    reason: str | None = None
    detail: str | None = None


def timetable_of(schedule: Mapping[str, Any]) -> Timetable:
    """The times of a schedule's row."""
    unit = schedule["interval_unit"]
    return Timetable(
        cron=schedule["cron_expression"],
        interval=schedule["interval"] * UNITS[unit] if unit else None,
        zone=ZoneInfo(schedule["timezone"]),
        anchor=schedule["anchor"],
        starts_at=schedule["starts_at"],
        ends_at=schedule["ends_at"],
    )


def plan(schedule: Mapping[str, Any], now: datetime) -> tuple[list[Verdict], datetime | None]:
    """The verdicts on all slots up to `now`, oldest first, and the next slot after it.

    Args:
        schedule: a row of `due_schedules`: with `next_slot`, the policies, and `is_working`.
    """
    times = timetable_of(schedule)
    first: datetime = schedule["next_slot"]
    passed, following = _passed(times, first, now)
    skipped_over = passed[0] > first
    verdicts = list(_judge(schedule, passed, now))
    if skipped_over:
        detail = f"{_MISSED}, like all others before {passed[0].isoformat()}."
        verdicts.insert(0, Verdict(first, "misfire_policy", detail))
    return verdicts, following


def _passed(times: Timetable, first: datetime, now: datetime) -> tuple[list[datetime], datetime | None]:
    """The newest slots from `first` to `now`, `MOST_NOTED` at the most, and the one that follows."""
    # Cron has a slot a minute at the most: a first look far back could be endless.
    shortest = times.interval or timedelta(minutes=1)
    recent = now - min(MOST_NOTED * shortest, now - first)
    passed = deque([first], maxlen=MOST_NOTED)
    for number, slot in enumerate(times.slots(first)):
        if slot > now:
            return list(passed), slot
        passed.append(slot)
        if number > 10 * MOST_NOTED and slot < recent:
            return _passed(times, times.next_slot(recent) or slot, now)
    return list(passed), None


def _judge(schedule: Mapping[str, Any], passed: list[datetime], now: datetime) -> Iterable[Verdict]:
    if not schedule["is_active"]:
        return (Verdict(slot, "paused", "The schedule was paused.") for slot in passed)
    missed = [slot for slot in passed if now - slot > GRACE]
    timely = passed[len(missed) :]
    policy = schedule["misfire_policy"]
    kept = {"skip": 0, "fire_once": 0 if timely else 1, "fire_all": MOST_FIRED}[policy]
    cut = max(0, len(missed) - kept)
    dropped, fired = missed[:cut], missed[cut:]
    detail = f"{_MISSED}; the policy is {policy}."
    verdicts = [Verdict(slot, "misfire_policy", detail) for slot in dropped]
    return [*verdicts, *_without_overlap(schedule, fired, timely)]


def _without_overlap(schedule: Mapping[str, Any], fired: list[datetime], timely: list[datetime]) -> Iterable[Verdict]:
    if schedule["overlap_policy"] != "skip":
        return (Verdict(slot) for slot in (*fired, *timely))
    overlap = "The last firing still worked."
    if schedule["is_working"]:
        return (Verdict(slot, "overlap", overlap) for slot in (*fired, *timely))
    # What was missed and is to be fired all at once cannot overlap with itself.
    started = fired or list(islice(timely, 1))
    rest = timely if fired else timely[1:]
    return [*(Verdict(slot) for slot in started), *(Verdict(slot, "overlap", overlap) for slot in rest)]
