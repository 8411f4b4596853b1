"""Numbers about tasks, from what is counted in the transactions that end them (jobs/store/sql/statistics.sql).

Hours and days are those of the clock and the calendar in UTC.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, Protocol

from jobs.beats import LEASE_SECONDS
from jobs.histogram import Histogram
from jobs.lifecycle import TERMINAL, Status
from jobs.prices import Prices
from jobs.priority import QUEUES
from jobs.store.database import Params, Row

MOST_HOURS: Final = 744
"""How far back numbers by the hour go in one answer: 31 days."""

KEEP_DAYS: Final = 400

_HOUR_MINUTES = 60
_FOLDED_AT_ONCE = 20_000  # rows; that is a fraction of a second
_TOKENS = ("tasks", "prompt_tokens", "completion_tokens", "total_tokens")


class Reader(Protocol):
    """A database, or a transaction."""

    def all(self, name: str, params: Params | None = None) -> list[Row]:
        """The rows of the named statement."""


def fold(database: Reader) -> None:
    """Add what was counted since the last time to the sums; any number of processes may."""
    for statement in ("fold_ends", "fold_durations", "fold_tokens"):
        database.all(statement, {"limit": _FOLDED_AT_ONCE})


# How tasks ended


@dataclass(frozen=True, slots=True)
class Figures:
    """How the tasks of some time ended: rows of `ends_since`, and of `durations_since` (one at most)."""

    ends: list[Row]
    durations: list[Row]

    def as_json(self, minutes: float) -> dict[str, Any]:
        """`total_tasks`, `success_rate` (of those that completed or failed), counts, times in seconds.

        Args:
            minutes: how long the time was; of one that has only begun, a minute is counted.
        """
        by_status = Counter[str](dict.fromkeys(sorted(status.value for status in TERMINAL), 0))
        codes = Counter[str]()
        for row in self.ends:
            by_status[row["status"]] += row["tasks"]
            if row["status"] == Status.FAILED:
                codes[row["error_code"]] += row["tasks"]
        decided = by_status[Status.COMPLETED] + by_status[Status.FAILED]
        return {
            "total_tasks": by_status.total(),
            "success_rate": round(by_status[Status.COMPLETED] / decided, 4) if decided else None,
            "by_status": dict(by_status),
            "attempts": sum(row["attempts"] for row in self.ends),
            "waiting_seconds": self._times("waited").summary(),
            "running_seconds": self._times("run").summary(),
            "error_codes": dict(codes.most_common()),
            "throughput_per_minute": round(by_status.total() / max(minutes, 1), 4),
        }

    def _times(self, which: str) -> Histogram:
        return histogram(self.durations[0], which) if self.durations else Histogram()


def histogram(row: Row, which: str) -> Histogram:
    """The times that tasks `waited`, or `run`, in a row of `durations_since` or `durations_ever`."""
    return Histogram(row["buckets"], row[which], row[f"{which}_us"])


def task_figures(reader: Reader, hours: int, task_type: str | None = None) -> dict[str, Any]:
    """How tasks ended in the last hours, from the beginning of the clock hour (`since`) that these began in."""
    now = datetime.now(UTC)
    since = _hour_before(now, hours)
    return {"since": since, "task_type": task_type, **_figures(reader, since, task_type).as_json(_minutes(since, now))}


def trends(reader: Reader, hours: int, task_type: str | None = None) -> list[dict[str, Any]]:
    """The same for each of so many clock hours, the one that is running last; also for hours without any."""
    now = datetime.now(UTC)
    figures = {_hour_before(now, back): Figures([], []) for back in reversed(range(hours))}
    asked = {"since": min(figures), "task_type": task_type or "", "by_hour": True}
    # Another hour may have begun since, or by PostgreSQL's clock: it is left to those who ask then.
    for row in reader.all("ends_since", asked):
        if row["hour"] in figures:
            figures[row["hour"]].ends.append(row)
    for row in reader.all("durations_by_hour", asked):
        if row["hour"] in figures:
            figures[row["hour"]].durations.append(row)
    return [{"hour": hour, **found.as_json(min(_minutes(hour, now), _HOUR_MINUTES))} for hour, found in figures.items()]


def figures_by_type(reader: Reader, hours: int) -> list[dict[str, Any]]:
    """The same as `task_figures`, for each task type that has any."""
    since = _hour_before(datetime.now(UTC), hours)
    types = [row["task_type"] for row in reader.all("types_since", {"since": since})]
    return [task_figures(reader, hours, name) for name in types]


def _figures(reader: Reader, since: datetime, task_type: str | None) -> Figures:
    asked = {"since": since, "task_type": task_type or "", "by_hour": False}
    return Figures(reader.all("ends_since", asked), reader.all("durations_since", asked))


def _hour_before(now: datetime, hours: int) -> datetime:
    """The beginning of the clock hour so many hours ago."""
    return (now - timedelta(hours=hours)).replace(minute=0, second=0, microsecond=0)


def _minutes(since: datetime, until: datetime) -> float:
    return (until - since).total_seconds() / 60


# What they cost


@dataclass(slots=True)
class Cost:
    """Tokens, and what those with a price cost; None when none of them has one."""

    tasks: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    unpriced_tokens: int = 0
    money: float | None = None

    def add(self, row: Row, money: float | None) -> None:
        """Those of a row of `tokens_since`."""
        for name in _TOKENS:
            setattr(self, name, getattr(self, name) + row[name])
        if money is None:
            self.unpriced_tokens += row["total_tokens"]
        else:
            self.money = (self.money or 0.0) + money

    def as_json(self) -> dict[str, Any]:
        """With money to a millionth."""
        money = None if self.money is None else round(self.money, 6)
        return {**{name: getattr(self, name) for name in _TOKENS}, "money": money,
                "unpriced_tokens": self.unpriced_tokens}  # fmt: skip


def costs(reader: Reader, prices: Prices, since: date) -> dict[str, Any]:
    """Tokens and money since a day, by model, account, task type and day.

    `money` is what the tokens of models with a price cost; `unpriced_models` are those without one.
    """
    total, unpriced = Cost(), set[str]()
    groups: dict[str, dict[Any, Cost]] = {by: defaultdict(Cost) for by in ("model", "account_id", "task_type", "day")}
    for row in reader.all("tokens_since", {"since": since}):
        money = prices.money(row["model"], row["prompt_tokens"], row["completion_tokens"])
        groups[row["by"]][row[row["by"]]].add(row, money)
        if row["by"] == "model":
            total.add(row, money)
            unpriced |= {row["model"]} if money is None else set()
    listed = {
        f"by_{by.removesuffix('_id')}": [
            {by: key, **cost.as_json()}
            for key, cost in sorted(group.items(), key=lambda item: (-item[1].total_tokens, str(item[0])))
        ]
        for by, group in groups.items()
    }
    listed["by_day"].sort(key=lambda row: row["day"])
    return {
        "since": since,
        "currency": prices.currency,
        "total": total.as_json(),
        "unpriced_models": sorted(unpriced),
        **listed,
    }


def day_of_hours_ago(hours: int) -> date:
    """The day in which the last so many hours began."""
    return (datetime.now(UTC) - timedelta(hours=hours)).date()


# What is going on


def realtime(reader: Reader, depths: list[Row]) -> dict[str, Any]:
    """Running tasks, queues (rows of `queue_depths`) and workers, right now."""
    by_type, by_queue = Counter[str](), Counter[str](dict.fromkeys(QUEUES, 0))
    for row in reader.all("count_running"):
        by_type[row["task_type"]] += row["tasks"]
        by_queue[row["queue"]] += row["tasks"]
    queues: dict[str, Row] = {name: {"depth": 0, "delayed": 0, "oldest_age_seconds": None} for name in QUEUES}
    for row in depths:
        age = row["oldest_age_seconds"]
        queues[row["queue"]] = {
            "depth": row["depth"],
            "delayed": row["delayed"],
            "oldest_age_seconds": None if age is None else round(age, 3),
        }
    processes = reader.all("alive", {"lease": LEASE_SECONDS})
    return {
        "running_tasks": by_type.total(),
        "running_by_type": dict(by_type),
        "running_by_queue": dict(by_queue),
        "queues": queues,
        "blocked_tasks": reader.all("count_blocked")[0]["tasks"],
        "workers": [
            {**{name: row[name] for name in ("name", "host", "queues", "running", "capacity", "last_heartbeat")},
             "load": round(row["running"] / max(1, row["capacity"]), 4)}
            for row in processes if row["kind"] == "worker"
        ],
    }  # fmt: skip
