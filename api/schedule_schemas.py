"""The shapes of schedules and executions, and whether a schedule's facts fit together."""

from datetime import timedelta
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, validate, validates_schema

from api import services
from api.bodies import Answer, Change
from api.paging import Paging, sort_field
from api.schemas import POSITIVE_ID, UtcDateTime
from jobs import zones
from jobs.fields import JsonObject, QueryInteger, StrictBoolean, StrictInteger, Text
from jobs.store import listing
from scheduler.executors import EXECUTORS
from scheduler.planner import GRACE, MOST_FIRED
from scheduler.schedules import DEFAULTS
from scheduler.timetable import UNITS, check_cron

_MISFIRE = (
    f"For slots that passed more than {GRACE.total_seconds():g} s ago while nothing ran: fire one for all of them, "
    f"all (the newest {MOST_FIRED} at the most), or none."
)
_CRON = {"description": "Five fields.", "format": "cron", "example": "0 8 * * *"}
_ZONE = {"description": "An IANA zone.", "format": "iana-time-zone", "example": "Asia/Shanghai"}
_OVERLAP = "For a firing that comes while the last one, or a task it submitted, still works."
_CRON_CHARS = 500  # every number of every field fits; it is read anew for each slot
_LONGEST_INTERVAL = timedelta(days=3660)
_STATUSES = ("PENDING", "COMPLETED", "FAILED", "SKIPPED")


class ScheduleFields(Change):
    """What a schedule consists of; how the facts fit together is checked on the whole."""

    name = Text(validate=validate.Length(1, 200))
    description = Text(validate=validate.Length(max=10_000))
    task_type = fields.String(metadata={"description": "An executor's name, see /executors."})
    cron_expression = Text(allow_none=True, validate=validate.Length(max=_CRON_CHARS), metadata=_CRON)
    interval = StrictInteger(allow_none=True, validate=validate.Range(1, 1_000_000))
    interval_unit = fields.String(allow_none=True, validate=validate.OneOf(list(UNITS)))
    timezone = fields.String(metadata=_ZONE)
    params = JsonObject(metadata={"description": "As the executor's schema says."})
    is_active = StrictBoolean()
    misfire_policy = fields.String(
        validate=validate.OneOf(["fire_once", "fire_all", "skip"]), metadata={"description": _MISFIRE}
    )
    overlap_policy = fields.String(
        validate=validate.OneOf(["skip", "allow", "queue"]), metadata={"description": _OVERLAP}
    )
    starts_at = UtcDateTime(allow_none=True)
    ends_at = UtcDateTime(allow_none=True)


class NewSchedule(ScheduleFields):
    """A schedule to create, or to put in another's place."""

    name = Text(required=True, validate=validate.Length(1, 200))
    task_type = fields.String(required=True, metadata={"description": "An executor's name, see /executors."})

    @validates_schema(skip_on_field_errors=True)
    def _fits_together(self, data: dict[str, Any], **_: Any) -> None:
        check(data)

    @post_load
    def _defaults(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {**DEFAULTS, "timezone": services.get().settings.tz_default, **data}


class ScheduleSchema(Answer):
    """A schedule as returned."""

    id = fields.Integer()
    name = fields.String()
    description = fields.String()
    task_type = fields.String()
    cron_expression = fields.String(allow_none=True)
    interval = fields.Integer(allow_none=True)
    interval_unit = fields.String(allow_none=True)
    timezone = fields.String()
    params = fields.Raw(metadata={"type": "object"})
    is_active = fields.Boolean()
    misfire_policy = fields.String()
    overlap_policy = fields.String()
    starts_at = fields.AwareDateTime(allow_none=True)
    ends_at = fields.AwareDateTime(allow_none=True)
    next_run_at = fields.AwareDateTime(allow_none=True)
    last_run_at = fields.AwareDateTime(allow_none=True)
    created_at = fields.AwareDateTime()
    updated_at = fields.AwareDateTime()


class ExecutionSchema(Answer):
    """One slot or firing by hand, and what became of it."""

    id = fields.Integer()
    schedule_id = fields.Integer()
    schedule_name = fields.String()
    task_type = fields.String()
    scheduled_for = fields.AwareDateTime()
    trigger = fields.String(validate=validate.OneOf(["schedule", "manual"]))
    status = fields.String(validate=validate.OneOf(_STATUSES))
    reason = fields.String(
        allow_none=True, metadata={"description": "Why it was skipped: paused, overlap, misfire_policy or impossible."}
    )
    detail = fields.String(allow_none=True)
    late_seconds = fields.Float(allow_none=True, metadata={"description": "From its slot to its start."})
    started_at = fields.AwareDateTime(allow_none=True)
    completed_at = fields.AwareDateTime(allow_none=True)
    result = fields.Raw(allow_none=True, metadata={"type": "object"})
    error = fields.Raw(allow_none=True, metadata={"type": "object"})


class ScheduleQuery(Paging):
    """The query of the list of schedules."""

    is_active = fields.Boolean()
    task_type = Text()
    sort = sort_field(listing.SCHEDULES)


class ExecutionQuery(Paging):
    """The query of the list of executions."""

    schedule_id = QueryInteger(validate=POSITIVE_ID)
    status = fields.String(validate=validate.OneOf(_STATUSES))
    trigger = fields.String(validate=validate.OneOf(["schedule", "manual"]))
    scheduled_after = UtcDateTime()
    scheduled_before = UtcDateTime()
    sort = sort_field(listing.EXECUTIONS)


class PreviewQuery(Schema):
    """How far to look."""

    count = QueryInteger(load_default=10, validate=validate.Range(1, 1000))


class Slot(Answer):
    """A slot to come."""

    local = fields.AwareDateTime(metadata={"description": "In the schedule's zone."})
    utc = fields.AwareDateTime()


class ExecutorSchema(Answer):
    """A registered executor."""

    name = fields.String()
    description = fields.String()
    params_schema = fields.Raw(metadata={"type": "object"})


class SchedulerProcess(Answer):
    """A scheduler process that beats."""

    name = fields.String()
    host = fields.String()
    started_at = fields.AwareDateTime()
    last_heartbeat = fields.AwareDateTime()


class NextFiring(Answer):
    """What is due next."""

    schedule_id = fields.Integer()
    name = fields.String()
    next_run_at = fields.AwareDateTime()


class SchedulerStatus(Answer):
    """Who fires, and what comes."""

    status = fields.String(metadata={"enum": ["healthy", "unhealthy"]})
    schedulers = fields.List(fields.Nested(SchedulerProcess))
    last_tick = fields.AwareDateTime(allow_none=True)
    lag_seconds = fields.Float(metadata={"description": "How overdue the oldest slot is."})
    next_firings = fields.List(fields.Nested(NextFiring))


def check(data: dict[str, Any]) -> None:
    """Whether the facts of a whole schedule fit together.

    Raises:
        ValidationError: naming each field that does not.
    """
    problems: dict[str, Any] = {}
    has_cron, has_interval = data.get("cron_expression") is not None, data.get("interval") is not None
    if has_cron == has_interval:
        said = "Give cron_expression or interval, not both." if has_cron else "Give cron_expression or interval."
        problems["cron_expression"] = [said]
    elif has_cron:
        try:
            check_cron(data["cron_expression"])
        except ValueError as error:
            problems["cron_expression"] = [str(error)]
    if (data.get("interval_unit") is not None) != has_interval:
        problems["interval_unit"] = ["Goes with interval, and only with it."]
    elif has_interval and data["interval"] * UNITS[data["interval_unit"]] > _LONGEST_INTERVAL:
        problems["interval"] = [f"Longer than {_LONGEST_INTERVAL.days} days."]
    if data.get("timezone", "UTC") not in zones.names():
        problems["timezone"] = ["Not an IANA time zone."]
    executor = EXECUTORS.get(data["task_type"])
    if executor is None:
        problems["task_type"] = [f"Unknown executor; there are: {', '.join(sorted(EXECUTORS))}."]
    elif wrong := executor.params_schema(services.get().task_types).validate(data.get("params", {})):
        problems["params"] = wrong
    starts_at, ends_at = data.get("starts_at"), data.get("ends_at")
    if starts_at and ends_at and ends_at <= starts_at:
        problems["ends_at"] = ["Must be after starts_at."]
    if problems:
        raise ValidationError(problems)
