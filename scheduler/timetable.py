"""When a schedule's slots are. Pure: cron expressions and intervals in, moments out.

Cron is evaluated in the schedule's own zone on the wall clock. A wall-clock time that the clocks skip
happens at the first moment after the gap; one that comes twice happens the first time only.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from croniter import CroniterBadDateError, CroniterError, croniter

UNITS: Final = {
    "seconds": timedelta(seconds=1),
    "minutes": timedelta(minutes=1),
    "hours": timedelta(hours=1),
    "days": timedelta(days=1),
    "weeks": timedelta(weeks=1),
}
# What five-field cron is everywhere; croniter would take more (seconds, L, #, ?, @daily, random values).
_NUMBER, _NAME = r"\d{1,2}", r"(?:\d{1,2}|[a-z]{3})"
_PARTS: Final = {"minute": _NUMBER, "hour": _NUMBER, "day": _NUMBER, "month": _NAME, "weekday": _NAME}
_RANGE = re.compile(r"(\d+)-(\d+)")
_SINGLE: Final = re.compile(r"(?<!\w)(\w+)-\1(?:/\d+)?(?!\w)", re.IGNORECASE)
_A_DAY_AND_MORE: Final = timedelta(hours=30)  # longer than any change of a clock


@dataclass(frozen=True, slots=True)
class Timetable:
    """A schedule's times: a cron expression in a zone, or an interval counted from `anchor`.

    Attributes:
        starts_at, ends_at: no slot before, none after; None: no bound.
    """

    cron: str | None
    interval: timedelta | None
    zone: ZoneInfo
    anchor: datetime
    starts_at: datetime | None = None
    ends_at: datetime | None = None

    def slots(self, after: datetime) -> Iterator[datetime]:
        """The slots later than `after`, in order, as UTC; endless unless `ends_at` is set or none come."""
        if self.starts_at and after < self.starts_at:
            # A slot may be at starts_at itself.
            after = self.starts_at - timedelta(microseconds=1)
        for slot in self._by_interval(after) if self.interval else self._by_cron(after):
            if self.ends_at and slot > self.ends_at:
                return
            yield slot

    def next_slot(self, after: datetime) -> datetime | None:
        """The first slot later than `after`; None when there is none."""
        return next(self.slots(after), None)

    def _by_interval(self, after: datetime) -> Iterator[datetime]:
        assert self.interval  # noqa: S101 - chosen by `slots`
        count = max(0, (after - self.anchor) // self.interval + 1)
        with suppress(OverflowError):  # at the end of time there are no more slots
            while True:
                yield self.anchor + count * self.interval
                count += 1

    def _by_cron(self, after: datetime) -> Iterator[datetime]:
        assert self.cron  # noqa: S101 - chosen by `slots`
        here, earlier = after.astimezone(self.zone), (after - _A_DAY_AND_MORE).astimezone(self.zone)
        change = (here.utcoffset() or timedelta()) - (earlier.utcoffset() or timedelta())
        # Where the clock was changed: early enough to see times that this moved behind `after`.
        local = here.replace(tzinfo=None) - abs(change)
        last = after
        walker = _walker(self.cron, local)
        while True:
            try:
                moment = moment_of(walker.get_next(datetime), self.zone)
            except (CroniterBadDateError, OverflowError, ValueError):
                return
            if moment > last:
                last = moment
                yield moment


def _walker(expression: str, local: datetime) -> croniter:
    """Walks the wall-clock times after `local`. croniter takes `5-5` for the whole range: it is just 5."""
    return croniter(_SINGLE.sub(r"\1", expression), local)


def moment_of(local: datetime, zone: ZoneInfo) -> datetime:
    """The UTC moment of a wall-clock time; see the module for skipped and doubled ones."""
    first = local.replace(tzinfo=zone, fold=0)
    moment = first.astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == local:
        return moment
    # Skipped: the offsets on both sides of the gap tell where it ends.
    before, later = first.utcoffset(), local.replace(tzinfo=zone, fold=1).utcoffset()
    assert before is not None  # noqa: S101 - zones have offsets
    assert later is not None  # noqa: S101
    low, high = (local - max(before, later)).replace(tzinfo=UTC), (local - min(before, later)).replace(tzinfo=UTC)
    offset = low.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        if middle.astimezone(zone).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)


def check_cron(expression: str) -> None:
    """Refuse what is not five-field cron, or never happens.

    Raises:
        ValueError: says what is wrong.
    """
    fields = expression.split()
    if len(fields) != 5:
        raise ValueError(f"Five fields are needed (minute hour day month weekday), not {len(fields)}.")
    for (name, part), field in zip(_PARTS.items(), fields, strict=True):
        piece = rf"(?:\*|{part}(?:-{part})?)(?:/\d{{1,2}})?"
        backwards = any(int(low) > int(high) for low, high in _RANGE.findall(field))
        if not re.fullmatch(f"{piece}(?:,{piece})*", field, re.IGNORECASE) or backwards:
            raise ValueError(f"The {name} field {field!r} is not a number, name, list, range or step.")
    try:
        _walker(expression, datetime(2000, 1, 1)).get_next(datetime)  # noqa: DTZ001 - a wall-clock time
    except CroniterBadDateError:
        raise ValueError("Such a date never comes.") from None
    except (CroniterError, ValueError, KeyError, OverflowError) as error:
        raise ValueError(f"Not a cron expression: {error}.") from None
