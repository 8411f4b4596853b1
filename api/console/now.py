"""Now: queues, workers, what runs, and the last hour."""

import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from api import services
from api.console.frame import show
from api.console.language import gettext as _
from api.console.language import local
from api.console.plots import Plot, Series
from api.console.words import percent, whole
from jobs import statistics
from jobs.lifecycle import Status
from jobs.store import listing
from jobs.store.database import Database, Row

PAGES: Final[dict[str, Any]] = {}  # `meta.index` shows it
MINUTES: Final = 60
_FLOW_SECONDS: Final = 10
_SHOWN_RUNNING: Final = 20


def page() -> str:
    """The page, which asks for itself again every few seconds."""
    tools = services.get()
    database = tools.database
    with database.transaction() as session:
        found = statistics.realtime(session, tools.depths.count(session))
    running = listing.TASKS_IN_BRIEF.page(
        database, {"status": [Status.PROCESSING]}, sort="-id", skip=0, limit=_SHOWN_RUNNING, cursor=None
    )
    minutes = by_minute(_ends(database, int(time.monotonic() // _FLOW_SECONDS)), datetime.now(UTC))
    ended = sum(sum(counts.values()) for counts in minutes.values())
    return show(
        "now.html", now=found, running=running.rows, flow=_flow(minutes), failures=_failures(minutes), ended=ended
    )


@lru_cache(maxsize=1)
def _ends(database: Database, _moment: int) -> list[Row]:
    """How many tasks ended in each minute of the last hour; asked for at most once in a while, whoever looks."""
    return database.all("ends_by_minute", {"minutes": MINUTES})


def by_minute(rows: list[Row], now: datetime) -> dict[datetime, Counter[str]]:
    """The same for each minute, oldest first, the one that is running last."""
    last = now.replace(second=0, microsecond=0)
    minutes = {last - timedelta(minutes=back): Counter[str]() for back in reversed(range(MINUTES))}
    for row in rows:
        if row["minute"] in minutes:
            minutes[row["minute"]][row["status"]] += row["tasks"]
    return minutes


def _labels(minutes: dict[datetime, Any]) -> list[str]:
    return [local(minute).strftime("%H:%M") for minute in minutes]


def _flow(minutes: dict[datetime, Counter[str]]) -> Plot:
    states = ((Status.COMPLETED, _("completed"), "one"), (Status.FAILED, _("failed"), "bad"))
    series = [Series(name, [counts[state] for counts in minutes.values()], tone) for state, name, tone in states]
    return Plot(_("Tasks ended per minute"), _labels(minutes), series, whole, bars=True)


def _failures(minutes: dict[datetime, Counter[str]]) -> Plot:
    shares = []
    for counts in minutes.values():
        decided = counts[Status.COMPLETED] + counts[Status.FAILED]
        shares.append(counts[Status.FAILED] / decided if decided else None)
    return Plot(
        _("Part that failed"), _labels(minutes), [Series(_("failed"), shares, "bad")], percent, bars=True, top=1.0
    )
