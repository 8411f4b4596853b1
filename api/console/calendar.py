"""A month of firings, day by day, on the viewer's calendar."""

import calendar
import re
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from api.console.language import today, zone
from jobs.store.database import Database, Row

_MONTH: Final = re.compile(r"(20\d\d|[3-8]\d{3})-(0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True)
class Day:
    """A day of the page; `counts` are rows of `executions_by_day`.

    Attributes:
        begins, ends: on the clock in UTC, as the API's filters want them.
    """

    day: date
    is_inside: bool
    is_today: bool
    begins: str
    ends: str
    counts: list[Row] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Month:
    """Its weeks, whole ones, from Monday on; and its neighbours, for links."""

    name: str
    before: str
    after: str
    weeks: list[list[Day]]


def month_of(database: Database, asked: str | None, schedule_id: int = 0) -> Month:
    """The month that was asked for (as 2026-11), else this one; of one schedule, or of all (0)."""
    match = _MONTH.fullmatch(asked or "")
    now = today().date()
    first = date(int(match[1]), int(match[2]), 1) if match else now.replace(day=1)
    weeks = calendar.Calendar().monthdatescalendar(first.year, first.month)
    begins, ends = weeks[0][0], weeks[-1][-1] + timedelta(days=1)
    span: dict[str, Any] = {"since": _moment(begins), "until": _moment(ends), "zone": zone().key}
    counts: dict[date, list[Row]] = defaultdict(list)
    for row in database.all("executions_by_day", {**span, "schedule_id": schedule_id}):
        counts[row["day"]].append(row)
    return Month(
        first.strftime("%Y-%m"),
        (first - timedelta(days=1)).strftime("%Y-%m"),
        (first + timedelta(days=31)).strftime("%Y-%m"),
        [
            [
                Day(
                    day,
                    day.month == first.month,
                    day == now,
                    _moment(day).isoformat(),
                    _moment(day + timedelta(days=1)).isoformat(),
                    counts[day],
                )
                for day in week
            ]
            for week in weeks
        ],
    )


def _moment(day: date) -> datetime:
    """When a day begins for the viewer."""
    return datetime.combine(day, time(), zone()).astimezone(UTC)
