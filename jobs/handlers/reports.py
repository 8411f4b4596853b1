"""`cost_statistics` and `monitoring_report`: numbers about a period, as the result of a task."""

from typing import Any

from marshmallow import Schema, validate

from jobs import statistics
from jobs.fields import StrictInteger
from jobs.handlers.context import Context
from jobs.handlers.registry import task_type
from jobs.providers import catalog


class PeriodInput(Schema):
    """How far to look back: to the beginning of the clock hour, or for costs of the day, that was so long ago."""

    hours = StrictInteger(load_default=24, validate=validate.Range(1, 24 * 366))


@task_type("cost_statistics", input_schema=PeriodInput, mode="thread")
def cost_statistics(context: Context) -> dict[str, Any]:
    """Tokens and money by model, account, task type and day, as `/api/v1/stats/costs` shows them."""
    return {"hours": _hours(context), **_costs(context)}


@task_type("monitoring_report", input_schema=PeriodInput, mode="thread")
def monitoring_report(context: Context) -> dict[str, Any]:
    """How tasks ended, in all and by type, as `/api/v1/stats/tasks` shows it; tokens and money; what goes on now."""
    hours, database = _hours(context), context.database
    return {
        "hours": hours,
        **statistics.task_figures(database, hours),
        "task_types": statistics.figures_by_type(database, hours),
        "costs": _costs(context),
        "now": statistics.realtime(database, database.all("queue_depths")),
    }


def _hours(context: Context) -> int:
    return int(context.input.get("hours", 24))


def _costs(context: Context) -> dict[str, Any]:
    since = statistics.day_of_hours_ago(_hours(context))
    return statistics.costs(context.database, catalog.prices(context.settings), since)
