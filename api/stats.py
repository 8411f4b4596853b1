"""/api/v1/stats: numbers about tasks. Hours and days are those of the clock and the calendar in UTC."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
from flask import jsonify
from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from api import services
from api.bodies import Answer, Blueprint
from jobs import statistics
from jobs.fields import QueryInteger, Text

blueprint = Blueprint("stats", __name__, url_prefix="/api/v1/stats", description="Numbers about tasks")

_MOST_TREND_HOURS = 168
_DEFAULT_DAYS = 30
_MB = 1024 * 1024

psutil.cpu_percent()  # from here, each call says how it was since the one before


class TasksQuery(Schema):
    """Which tasks; from the beginning of the clock hour that was so many hours ago."""

    hours = QueryInteger(load_default=24, validate=validate.Range(1, statistics.MOST_HOURS))
    task_type = Text(load_default=None, validate=validate.Length(1))


class TrendsQuery(TasksQuery):
    """So many clock hours, the one that is running included."""

    hours = QueryInteger(load_default=24, validate=validate.Range(1, _MOST_TREND_HOURS))


class CostsQuery(Schema):
    """So many calendar days, today included; or all days that the last hours touch."""

    days = QueryInteger(
        validate=validate.Range(1, statistics.KEEP_DAYS), metadata={"description": f"{_DEFAULT_DAYS} if not given."}
    )
    hours = QueryInteger(validate=validate.Range(1, 24 * statistics.KEEP_DAYS))

    @validates_schema
    def _one_span(self, data: dict[str, Any], **_: Any) -> None:
        if "days" in data and "hours" in data:
            raise ValidationError("Give days or hours, not both.", "hours")


class QueueSchema(Answer):
    """What waits in a queue: what could be started now, and what is not due yet."""

    depth = fields.Integer()
    delayed = fields.Integer()
    oldest_age_seconds = fields.Float(allow_none=True)


class LoadSchema(Answer):
    """A worker that beats; `load` is the part of its capacity that is in use."""

    name = fields.String()
    host = fields.String()
    queues = fields.List(fields.String())
    running = fields.Integer()
    capacity = fields.Integer()
    part_in_use = fields.Float(data_key="load")
    last_heartbeat = fields.AwareDateTime()


class SystemSchema(Answer):
    """The machine of this web process."""

    cpu_usage_percent = fields.Float()
    memory_usage_mb = fields.Float()


class RealtimeSchema(Answer):
    """What is going on now."""

    running_tasks = fields.Integer()
    running_by_type = fields.Dict(fields.String(), fields.Integer())
    running_by_queue = fields.Dict(fields.String(), fields.Integer())
    queues = fields.Dict(fields.String(), fields.Nested(QueueSchema))
    blocked_tasks = fields.Integer()
    workers = fields.List(fields.Nested(LoadSchema))
    system_resources = fields.Nested(SystemSchema)


class TimesSchema(Answer):
    """Seconds that the last attempts took; null when there are none."""

    mean = fields.Float(allow_none=True)
    p50 = fields.Float(allow_none=True)
    p95 = fields.Float(allow_none=True)
    p99 = fields.Float(allow_none=True)


class EndsSchema(Answer):
    """How tasks ended; `success_rate` (0 to 1) is the part that completed of those that completed or failed."""

    total_tasks = fields.Integer()
    success_rate = fields.Float(allow_none=True)
    by_status = fields.Dict(fields.String(), fields.Integer())
    attempts = fields.Integer()
    waiting_seconds = fields.Nested(TimesSchema)
    running_seconds = fields.Nested(TimesSchema)
    error_codes = fields.Dict(fields.String(), fields.Integer())
    throughput_per_minute = fields.Float()


class TasksSchema(EndsSchema):
    """All of a time together."""

    since = fields.AwareDateTime()
    task_type = fields.String(allow_none=True)


class HourSchema(EndsSchema):
    """Those of one hour; of the one that is running, so far."""

    hour = fields.AwareDateTime()


class TrendsSchema(Answer):
    """Hour by hour, also empty ones, oldest first."""

    trends = fields.List(fields.Nested(HourSchema))


class CostSchema(Answer):
    """Tasks, tokens and money; no model with a price: null. `unpriced_tokens` are those that `money` leaves out."""

    tasks = fields.Integer()
    prompt_tokens = fields.Integer()
    completion_tokens = fields.Integer()
    total_tokens = fields.Integer()
    money = fields.Float(allow_none=True)
    unpriced_tokens = fields.Integer()


class ModelCostSchema(CostSchema):
    """Of one model."""

    model = fields.String()


class AccountCostSchema(CostSchema):
    """Of one account; null: of none."""

    account_id = fields.Integer(allow_none=True)


class TypeCostSchema(CostSchema):
    """Of one task type."""

    task_type = fields.String()


class DayCostSchema(CostSchema):
    """Of one day."""

    day = fields.Date()


class CostsSchema(Answer):
    """What the tasks that ended since a day have used."""

    since = fields.Date()
    currency = fields.String()
    total = fields.Nested(CostSchema)
    unpriced_models = fields.List(fields.String())
    by_model = fields.List(fields.Nested(ModelCostSchema))
    by_account = fields.List(fields.Nested(AccountCostSchema))
    by_task_type = fields.List(fields.Nested(TypeCostSchema))
    by_day = fields.List(fields.Nested(DayCostSchema))


@blueprint.get("/realtime")
@blueprint.response(200, RealtimeSchema)
def realtime() -> Any:
    """Running tasks, queues, workers and the machine, right now."""
    with services.get().database.transaction() as session:
        found = statistics.realtime(session, services.get().depths.count(session))
    memory = psutil.virtual_memory()
    used = round((memory.total - memory.available) / _MB, 1)
    system = {"cpu_usage_percent": psutil.cpu_percent(), "memory_usage_mb": used}
    return jsonify(**found, system_resources=system)


@blueprint.get("/tasks")
@blueprint.arguments(TasksQuery, location="query", unknown="raise")
@blueprint.response(200, TasksSchema)
def tasks(query: dict[str, Any]) -> Any:
    """How tasks ended: how many, how well, how long they waited and ran, and why they failed."""
    with services.get().statistics.transaction() as session:
        return jsonify(statistics.task_figures(session, **query))


@blueprint.get("/trends")
@blueprint.arguments(TrendsQuery, location="query", unknown="raise")
@blueprint.response(200, TrendsSchema)
def trends(query: dict[str, Any]) -> Any:
    """The same, hour by hour."""
    with services.get().statistics.transaction() as session:
        return jsonify(trends=statistics.trends(session, **query))


@blueprint.get("/costs")
@blueprint.arguments(CostsQuery, location="query", unknown="raise")
@blueprint.response(200, CostsSchema)
def costs(query: dict[str, Any]) -> Any:
    """Tokens and money by model, account, task type and day, at the prices in PROVIDERS_FILE."""
    if "hours" in query:
        since = statistics.day_of_hours_ago(query["hours"])
    else:
        since = datetime.now(UTC).date() - timedelta(days=query.get("days", _DEFAULT_DAYS) - 1)
    tools = services.get()
    return jsonify(statistics.costs(tools.statistics, tools.prices, since))
