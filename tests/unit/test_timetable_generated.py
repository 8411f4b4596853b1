"""Slots of any cron expression or interval, in zones with odd clocks, are those that a walk minute by minute finds."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from scheduler.timetable import UNITS, Timetable, check_cron

MINUTE, DAYS = timedelta(minutes=1), 3
# Clocks go forth and back: by an hour, at midnight, by half an hour, over a whole day, for Ramadan; or never.
CHANGES = [
    ("Europe/Berlin", "2026-03-28"),
    ("Europe/Berlin", "2026-10-24"),
    ("America/New_York", "2026-03-07"),
    ("America/New_York", "2026-10-31"),
    ("America/Sao_Paulo", "2018-11-03"),
    ("America/Sao_Paulo", "2018-02-17"),
    ("Australia/Lord_Howe", "2026-10-03"),
    ("Australia/Lord_Howe", "2026-04-04"),
    ("Pacific/Apia", "2011-12-28"),
    ("Africa/Casablanca", "2026-02-14"),
    ("Asia/Kathmandu", "2026-02-27"),
    ("UTC", "2024-02-28"),
]


@cache
def walked(zone: str, start: datetime) -> list[tuple[datetime, datetime]]:
    """Every wall-clock minute of some days, also those that were skipped, with the moment that it happens."""
    moment, end = start - timedelta(days=1), start + timedelta(days=DAYS + 1)
    found: list[tuple[datetime, datetime]] = []
    upcoming = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    while moment < end:
        local = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        while upcoming <= local:  # more than one where minutes were skipped, none where they come again
            found.append((upcoming, moment))
            upcoming += MINUTE
        moment += MINUTE
    return found


def moments_of(cron: str, zone: str, start: datetime) -> list[datetime]:
    """The naive way: look at each minute."""
    minute, hour, day, month, weekday = cron.split()
    minutes, hours = values(minute, 0, 59), values(hour, 0, 23)
    days, months, weekdays = values(day, 1, 31), values(month, 1, 12), {value % 7 for value in values(weekday, 0, 7)}
    either = "*" not in (day, weekday)  # as cron has it

    def matches(local: datetime) -> bool:
        if local.minute not in minutes or local.hour not in hours or local.month not in months:
            return False
        fits = (local.day in days, local.isoweekday() % 7 in weekdays)
        return any(fits) if either else all(fits)

    return sorted({moment for local, moment in walked(zone, start) if matches(local)})


NAMES = {
    name: number
    for names, first in (("jan feb mar apr may jun jul aug sep oct nov dec", 1), ("sun mon tue wed thu fri sat", 0))
    for number, name in enumerate(names.split(), first)
}


def values(field: str, least: int, most: int) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        low, _, high = span.partition("-")
        first = least if low == "*" else number_of(low)
        last = most if low == "*" else number_of(high or low)
        found.update(range(first, last + 1, int(step or 1)))
    return found


def number_of(word: str) -> int:
    return NAMES[word] if word in NAMES else int(word)


def field(least: int, most: int, names: list[str] | None = None) -> st.SearchStrategy[str]:
    number = st.integers(least, most)
    spans = st.tuples(number, number).map(sorted)
    part = st.one_of(
        number.map(str),
        spans.map(lambda span: f"{span[0]}-{span[1]}"),
        st.tuples(spans, st.integers(1, most)).map(lambda given: f"{given[0][0]}-{given[0][1]}/{given[1]}"),
        st.sampled_from(names) if names else number.map(str),
    )
    return st.lists(part, min_size=1, max_size=3).map(",".join)


steps = st.integers(1, 59).map(lambda step: f"*/{step}")
crons = st.tuples(
    st.just("*") | steps | field(0, 59),
    st.just("*") | st.integers(1, 23).map(lambda step: f"*/{step}") | field(0, 23),
    st.just("*") | field(1, 31),
    st.just("*") | field(1, 12, ["jan", "feb", "dec"]),
    st.just("*") | field(0, 7, ["sun", "mon", "sat"]),
).map(" ".join)


@given(crons, st.sampled_from(CHANGES), st.integers(0, 2 * 86_400))
def test_cron_agrees_with_a_walk_minute_by_minute(cron: str, change: tuple[str, str], seconds: int) -> None:
    zone, start = change[0], datetime.fromisoformat(change[1]).replace(tzinfo=UTC)
    after = start + timedelta(seconds=seconds)
    end = after + timedelta(hours=12)
    expected = [moment for moment in moments_of(cron, zone, start) if after < moment <= end]
    times = Timetable(cron, None, ZoneInfo(zone), after)
    assert list(takewhile(lambda slot: slot <= end, times.slots(after))) == expected
    following = times.next_slot(after)
    assert following is None or following > after


@given(crons, st.sampled_from(CHANGES), st.lists(st.integers(1, 4 * 3600), min_size=1, max_size=8))
def test_asking_again_from_any_moment_neither_skips_nor_doubles(
    cron: str, change: tuple[str, str], pauses: list[int]
) -> None:
    zone = change[0]
    now = begin = datetime.fromisoformat(change[1]).replace(tzinfo=UTC)
    times = Timetable(cron, None, ZoneInfo(zone), begin)
    seen: list[datetime] = []
    for pause in pauses:
        later = now + timedelta(seconds=pause)
        seen += takewhile(lambda slot: slot <= later, times.slots(now))  # noqa: B023 - used at once
        now = later
    assert seen == list(takewhile(lambda slot: slot <= now, times.slots(begin)))


moments = st.datetimes(
    datetime.fromisoformat("1990-01-01"), datetime.fromisoformat("2100-01-01"), timezones=st.just(UTC)
)


@given(st.integers(1, 1000), st.sampled_from(list(UNITS)), moments, moments, st.none() | moments, st.none() | moments)
def test_intervals_are_counted_from_the_anchor(
    count: int, unit: str, anchor: datetime, after: datetime, starts_at: datetime | None, ends_at: datetime | None
) -> None:
    interval = count * UNITS[unit]
    slots = list(islice(Timetable(None, interval, ZoneInfo("UTC"), anchor, starts_at, ends_at).slots(after), 5))
    earliest = max(anchor, after + timedelta(microseconds=1), starts_at or anchor)
    for number, slot in enumerate(slots):
        assert (slot - anchor) % interval == timedelta(0)
        assert earliest + number * interval <= slot < earliest + (number + 1) * interval
        assert ends_at is None or slot <= ends_at
    assert len(slots) == 5 or (ends_at and ends_at < earliest + 5 * interval)


def words() -> st.SearchStrategy[str]:
    piece = st.sampled_from(
        ["*", "/", "-", ",", "0", "7", "59", "99", "sun", "feb", "L", "#", "?", "R", "@daily", "٣", " "]
    )
    return st.lists(piece, max_size=16).map("".join) | st.lists(crons | st.text(max_size=4), max_size=3).map(" ".join)


@given(words())
def test_whatever_is_accepted_has_slots(expression: str) -> None:
    try:
        check_cron(expression)
    except ValueError:
        return
    zone = ZoneInfo("Europe/Berlin")
    now = datetime(2026, 1, 1, tzinfo=UTC)
    found: Iterator[datetime] = islice(Timetable(expression, None, zone, now).slots(now), 3)
    assert all(slot > now for slot in found)
