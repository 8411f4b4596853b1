"""Slots of cron expressions and intervals, also where clocks change."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from scheduler.timetable import Timetable, check_cron, moment_of

ZONES = ["America/New_York", "Europe/London", "Asia/Shanghai", "Australia/Lord_Howe", "Asia/Kathmandu"]
START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)


def cron(expression: str, zone: str = "UTC", **bounds: datetime) -> Timetable:
    return Timetable(expression, None, ZoneInfo(zone), START, **bounds)


@lru_cache
def minutes_of(zone: str) -> list[tuple[datetime, datetime]]:
    """Every minute of the year, in UTC and on the zone's wall clocks."""
    moments = [START + timedelta(minutes=number) for number in range(-1, (END - START) // timedelta(minutes=1))]
    return [(moment, moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)) for moment in moments]


def walked(zone: str, minute: int, hour: int | None) -> Iterator[datetime]:
    """Slots found by walking through the year minute by minute, knowing nothing of cron or offsets."""
    seen: set[datetime] = set()
    (_, before), *rest = minutes_of(zone)
    for moment, local in rest:
        passed = before + timedelta(minutes=1)
        # One minute usually; more where the clock jumps ahead; none where it is set back.
        due = False
        while passed <= local:
            if passed.minute == minute and hour in (None, passed.hour) and passed not in seen:
                seen.add(passed)
                due = True
            passed += timedelta(minutes=1)
        if due:
            yield moment
        before = max(before, local)


@pytest.mark.parametrize(("expression", "minute", "hour"), [("30 * * * *", 30, None), ("15 2 * * *", 15, 2)])
@pytest.mark.parametrize("zone", ZONES)
def test_a_year_of_slots_equals_an_independent_walk(zone: str, expression: str, minute: int, hour: int | None) -> None:
    table = cron(expression, zone, ends_at=END - timedelta(seconds=1))
    assert list(table.slots(START - timedelta(seconds=1))) == list(walked(zone, minute, hour))


def test_a_slot_in_the_skipped_hour_fires_once_at_the_first_moment_after_it() -> None:
    table = cron("*/15 2 * * *", "America/New_York")
    slots = list(islice(table.slots(datetime(2026, 3, 8, 6, 0, tzinfo=UTC)), 2))
    assert slots == [datetime(2026, 3, 8, 7, 0, tzinfo=UTC), datetime(2026, 3, 9, 6, 0, tzinfo=UTC)]


def test_a_slot_in_the_doubled_hour_fires_once() -> None:
    table = cron("30 1 * * *", "America/New_York")
    slots = list(islice(table.slots(datetime(2026, 11, 1, 4, 0, tzinfo=UTC)), 2))
    assert slots == [datetime(2026, 11, 1, 5, 30, tzinfo=UTC), datetime(2026, 11, 2, 6, 30, tzinfo=UTC)]


def test_a_day_that_a_zone_left_out_does_not_break_anything() -> None:
    """Samoa skipped the whole of 2011-12-30."""
    local = datetime(2011, 12, 30, 12)  # noqa: DTZ001 - a time on a wall clock
    assert moment_of(local, ZoneInfo("Pacific/Apia")) == datetime(2011, 12, 30, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 8 * * *", "01-01 08:00, 01-02 08:00"),
        ("5,10-20/5 * * * *", "01-01 00:05, 01-01 00:10, 01-01 00:15, 01-01 00:20, 01-01 01:05"),
        ("0 0 * * mon-fri", "01-01 00:00, 01-02 00:00, 01-05 00:00"),
        ("0 0 1 jan,jul *", "01-01 00:00, 07-01 00:00"),
        ("0 0 * * 7", "01-04 00:00, 01-11 00:00"),
        ("0 0 13 * FRI", "01-02 00:00, 01-09 00:00, 01-13 00:00"),
        ("0 12 31 * *", "01-31 12:00, 03-31 12:00"),
    ],
)
def test_names_lists_ranges_and_steps(expression: str, expected: str) -> None:
    moments = expected.split(", ")
    slots = islice(cron(expression).slots(START - timedelta(seconds=1)), len(moments))
    assert [slot.strftime("%m-%d %H:%M") for slot in slots] == moments


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * * *",
        "* * * * * *",
        "61 * * * *",
        "* 24 * * *",
        "0 0 0 * *",
        "0 0 * 13 *",
        "0 0 * * 8",
        "@daily",
        "0 0 31 2 *",
        "0 0 L * *",
        "0 0 ? * *",
        "0 0 * * mon#1",
        "H * * * *",
        "a * * * *",
        "*/0 * * * *",
        "20-10 * * * *",
        "1,,2 * * * *",
        "-1 * * * *",
        "1.5 * * * *",
        "* * * foo *",
    ],
)
def test_what_is_not_five_field_cron_is_refused(expression: str) -> None:
    with pytest.raises(ValueError):
        check_cron(expression)


@pytest.mark.parametrize("expression", ["0 0 29 2 *", "*/7 * * * *", "0 9-17 * * MON-FRI", "59 23 31 12 *"])
def test_the_rest_is_accepted(expression: str) -> None:
    check_cron(expression)


class TestInterval:
    def table(self, **bounds: datetime) -> Timetable:
        return Timetable(None, timedelta(hours=2), ZoneInfo("UTC"), START, **bounds)

    def test_slots_are_counted_from_the_anchor(self) -> None:
        slots = list(islice(self.table().slots(START), 2))
        assert slots == [START + timedelta(hours=2), START + timedelta(hours=4)]
        late = START + timedelta(days=300, minutes=1)
        assert self.table().next_slot(late) == START + timedelta(days=300, hours=2)

    def test_bounds_are_respected(self) -> None:
        begin = START + timedelta(hours=6)
        table = self.table(starts_at=begin, ends_at=begin + timedelta(hours=3))
        assert list(table.slots(START)) == [begin, begin + timedelta(hours=2)]
        assert table.next_slot(END) is None
