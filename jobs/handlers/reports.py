"""`cost_statistics` and `monitoring_report`: aggregates over a period, as the result of a task."""

from typing import Any

from marshmallow import Schema, validate

from jobs.fields import StrictInteger
from jobs.handlers.context import Context
from jobs.handlers.registry import task_type


class PeriodInput(Schema):
    """The hours up to now to look at."""

    hours = StrictInteger(load_default=24, validate=validate.Range(1, 24 * 366))


def _hours(context: Context) -> dict[str, int]:
    return {"hours": context.input.get("hours", 24)}


@task_type("cost_statistics", input_schema=PeriodInput, mode="thread")
def cost_statistics(context: Context) -> dict[str, Any]:
    """Tokens by model, task type and account."""
    period = _hours(context)
    rows = context.database.all("cost_statistics", period)
    totals = {
        name: sum(row[name] for row in rows) for name in ("tasks", "prompt_tokens", "completion_tokens", "total_tokens")
    }
    return {**period, "rows": rows, "totals": totals}


@task_type("monitoring_report", input_schema=PeriodInput, mode="thread")
def monitoring_report(context: Context) -> dict[str, Any]:
    """Tasks by type with their outcomes and times, and the error codes."""
    period = _hours(context)
    return {
        **period,
        "task_types": context.database.all("monitoring_report", period),
        "errors": context.database.all("error_codes", period),
    }
