"""What becomes of slots that passed, as a table."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scheduler import planner
from scheduler.planner import MOST_FIRED, plan

NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def schedule(next_slot: datetime, **change: Any) -> dict[str, Any]:
    facts = {
        "cron_expression": None,
        "interval": 1,
        "interval_unit": "hours",
        "timezone": "UTC",
        "anchor": NOON - timedelta(days=30),
        "starts_at": None,
        "ends_at": None,
        "is_active": True,
        "is_working": False,
        "misfire_policy": "fire_once",
        "overlap_policy": "skip",
        "next_slot": next_slot,
    }
    return {**facts, **change}


def judged(facts: dict[str, Any], now: datetime) -> str:
    verdicts, _ = plan(facts, now)
    return " ".join(f"{verdict.slot:%H}:{verdict.reason or 'fire'}" for verdict in verdicts)


ON_TIME = NOON + timedelta(seconds=1)
LATE = NOON + timedelta(minutes=30)
M = "misfire_policy"


@pytest.mark.parametrize(
    ("now", "change", "expected"),
    [
        (ON_TIME, {}, "12:fire"),
        (ON_TIME, {"misfire_policy": "skip"}, "12:fire"),
        (ON_TIME, {"is_active": False}, "12:paused"),
        (ON_TIME, {"is_working": True}, "12:overlap"),
        (ON_TIME, {"is_working": True, "overlap_policy": "allow"}, "12:fire"),
        (ON_TIME, {"is_working": True, "overlap_policy": "queue"}, "12:fire"),
        (LATE, {}, "12:fire"),
        (LATE, {"misfire_policy": "skip"}, f"12:{M}"),
        (LATE, {"misfire_policy": "fire_all"}, "12:fire"),
    ],
)
def test_one_slot(now: datetime, change: dict[str, Any], expected: str) -> None:
    assert judged(schedule(NOON, **change), now) == expected


@pytest.mark.parametrize(
    ("now", "change", "expected"),
    [
        # Three slots passed long ago: 09, 10, 11; the one of 12 is on time or late, too.
        (ON_TIME, {}, f"09:{M} 10:{M} 11:{M} 12:fire"),
        (LATE, {}, f"09:{M} 10:{M} 11:{M} 12:fire"),
        (ON_TIME, {"misfire_policy": "skip"}, f"09:{M} 10:{M} 11:{M} 12:fire"),
        (LATE, {"misfire_policy": "skip"}, f"09:{M} 10:{M} 11:{M} 12:{M}"),
        (LATE, {"misfire_policy": "fire_all"}, "09:fire 10:fire 11:fire 12:fire"),
        (ON_TIME, {"misfire_policy": "fire_all"}, "09:fire 10:fire 11:fire 12:overlap"),
        (ON_TIME, {"misfire_policy": "fire_all", "overlap_policy": "queue"}, "09:fire 10:fire 11:fire 12:fire"),
        (LATE, {"misfire_policy": "fire_all", "is_working": True}, "09:overlap 10:overlap 11:overlap 12:overlap"),
        (LATE, {"is_active": False}, "09:paused 10:paused 11:paused 12:paused"),
    ],
)
def test_several_slots(now: datetime, change: dict[str, Any], expected: str) -> None:
    assert judged(schedule(NOON - timedelta(hours=3), **change), now) == expected


def test_the_next_slot_is_after_now() -> None:
    assert plan(schedule(NOON), LATE)[1] == NOON + timedelta(hours=1)
    assert plan(schedule(NOON, ends_at=NOON), LATE)[1] is None


def test_fire_all_has_a_limit() -> None:
    verdicts, _ = plan(schedule(NOON - timedelta(hours=150), misfire_policy="fire_all"), LATE)
    assert len(verdicts) == 151
    assert sum(verdict.reason is None for verdict in verdicts) == MOST_FIRED


@pytest.mark.parametrize(
    "times",
    [
        {"interval_unit": "seconds"},
        {"interval": None, "interval_unit": None, "cron_expression": "* * * * *"},
    ],
)
def test_a_long_outage_of_a_frequent_schedule_is_summed_up(times: dict[str, Any]) -> None:
    facts = schedule(NOON - timedelta(days=365), **times)
    verdicts, following = plan(facts, LATE)
    assert len(verdicts) == planner.MOST_NOTED + 1
    assert verdicts[0].slot == NOON - timedelta(days=365)
    assert "all others" in str(verdicts[0].detail)
    assert None in [verdict.reason for verdict in verdicts[-20:]]
    assert following is not None
    assert following > LATE
    slots = [verdict.slot for verdict in verdicts]
    assert slots == sorted(set(slots))
