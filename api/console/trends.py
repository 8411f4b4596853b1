"""Trends: how tasks ended, how long they took, what they cost; as plots, tables and CSV."""

import csv
import io
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from flask import Response, request

from api import services
from api.console.frame import show
from api.console.language import gettext as _
from api.console.language import local
from api.console.plots import Plot, Series
from api.console.words import money, percent, span, whole
from api.errors import abort
from jobs import statistics

_SPANS: Final = (24, 72, 168)
_DAYS: Final = (7, 30, 90)
_GROUPS: Final = {"model": "by_model", "account_id": "by_account", "task_type": "by_task_type", "day": "by_day"}
_HOUR_COLUMNS: Final = ("hour", "total_tasks", "completed", "failed", "cancelled", "success_rate", "attempts",
                        "waiting_p50", "waiting_p95", "running_p50", "running_p95")  # fmt: skip
_COST_COLUMNS: Final = ("tasks", "prompt_tokens", "completion_tokens", "total_tokens", "money", "unpriced_tokens")


def _choice(name: str, among: tuple[int, ...]) -> int:
    """A number that is offered; the first for anything else."""
    given = request.args.get(name, "")
    return next((one for one in among if str(one) == given), among[0])


def _task_type() -> str | None:
    given = request.args.get("task_type", "")
    return given if given in services.get().task_types else None


def _hours() -> list[dict[str, Any]]:
    with services.get().statistics.transaction() as session:
        return statistics.trends(session, _choice("hours", _SPANS), _task_type())


def _costs() -> dict[str, Any]:
    tools = services.get()
    since = datetime.now(UTC).date() - timedelta(days=_choice("days", _DAYS) - 1)
    return statistics.costs(tools.statistics, tools.prices, since)


def _plots(hours: list[dict[str, Any]]) -> list[Plot]:
    labels = [local(one["hour"]).strftime("%m-%d %H:%M") for one in hours]
    states = (
        ("COMPLETED", _("completed"), "one"),
        ("FAILED", _("failed"), "bad"),
        ("CANCELLED", _("cancelled"), "two"),
    )
    ended = [Series(name, [one["by_status"][state] for one in hours], tone) for state, name, tone in states]

    def times(which: str) -> list[Series]:
        return [
            Series(name, [one[which][name] for one in hours], tone) for name, tone in (("p50", "one"), ("p95", "two"))
        ]

    success = [Series(_("completed"), [one["success_rate"] for one in hours], "good")]
    return [
        Plot(_("Tasks ended per hour"), labels, ended, whole, bars=True),
        Plot(_("Part that completed"), labels, success, percent, top=1.0),
        Plot(_("Waiting, before the last attempt"), labels, times("waiting_seconds"), span),
        Plot(_("Running, the last attempt"), labels, times("running_seconds"), span),
    ]


def trends() -> str:
    """The page."""
    hours, costs = _hours(), _costs()
    known = {row["day"]: row for row in costs["by_day"]}
    days = [costs["since"] + timedelta(days=number) for number in range(_choice("days", _DAYS))]

    def daily(part: str) -> list[float | None]:
        return [known[day][part] if day in known else None for day in days]

    labels = [day.isoformat() for day in days]
    parts = (("prompt_tokens", _("in"), "one"), ("completion_tokens", _("out"), "two"))
    tokens = [Series(name, daily(part), tone) for part, name, tone in parts]
    spent = [Series(costs["currency"], daily("money"), "one")]
    return show(
        "trends.html",
        plots=_plots(hours),
        tokens=Plot(_("Tokens per day"), labels, tokens, whole, bars=True),
        money=Plot(_("Money per day"), labels, spent, money, bars=True),
        costs=costs,
        groups=[("model", _("Model")), ("account_id", _("Account")), ("task_type", _("Type"))],
        rows=_GROUPS,
        hours=_choice("hours", _SPANS),
        spans=_SPANS,
        days=_choice("days", _DAYS),
        many_days=_DAYS,
        task_type=_task_type() or "",
        types=sorted(services.get().task_types),
        total=sum(one["total_tasks"] for one in hours),
    )


def trends_hours() -> Response:
    """The hours as CSV, in UTC."""
    return _csv("hours", _HOUR_COLUMNS, (_hour_row(one) for one in _hours()))


def _hour_row(one: dict[str, Any]) -> list[Any]:
    counts, waiting, running = one["by_status"], one["waiting_seconds"], one["running_seconds"]
    ends = [counts["COMPLETED"], counts["FAILED"], counts["CANCELLED"]]
    times = [waiting["p50"], waiting["p95"], running["p50"], running["p95"]]
    return [one["hour"].isoformat(), one["total_tasks"], *ends, one["success_rate"], one["attempts"], *times]


def trends_costs(by: str) -> Response:
    """Tokens and money as CSV, by model, account, task type or day."""
    if by not in _GROUPS:
        abort(404, message="There are costs by model, account_id, task_type and day.")
    rows = ([row[by], *(row[name] for name in _COST_COLUMNS)] for row in _costs()[_GROUPS[by]])
    return _csv(f"costs-{by}", (by, *_COST_COLUMNS), rows)


def _csv(name: str, titles: Iterable[str], rows: Iterable[Iterable[Any]]) -> Response:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(titles)
    writer.writerows([_cell(value) for value in row] for row in rows)
    headers = {"Content-Disposition": f'attachment; filename="pressroom-{name}.csv"'}
    return Response(text.getvalue(), content_type="text/csv; charset=utf-8", headers=headers)


def _cell(value: Any) -> Any:
    """A value; text that a spreadsheet would take for a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


PAGES: Final = {
    "/trends": ("trends", trends),
    "/trends/hours.csv": ("trends_hours", trends_hours),
    "/trends/costs-<by>.csv": ("trends_costs", trends_costs),
}
