"""/api/v1/scheduler: schedules, their firings, and the processes that fire them."""

from datetime import UTC, datetime
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from flask import jsonify, url_for
from marshmallow import Schema, ValidationError, fields, post_load, validate, validates_schema

from api import services
from api.bodies import Blueprint
from api.errors import abort
from api.paging import Paging, page_of, sort_field
from api.schemas import POSITIVE_ID, UtcDateTime, json_schema
from jobs.beats import LEASE_SECONDS
from jobs.errors import NotFound
from jobs.fields import JsonObject, StrictInteger, Text
from jobs.store import listing
from jobs.store.database import Row
from scheduler.executors import EXECUTORS
from scheduler.planner import GRACE, MOST_FIRED, timetable_of
from scheduler.schedules import DEFAULTS
from scheduler.timetable import UNITS, check_cron

blueprint = Blueprint(
    "scheduler", __name__, url_prefix="/api/v1/scheduler", description="Schedules, their firings, and the clock"
)

_MISFIRE = (
    f"For slots that passed more than {GRACE.total_seconds():g} s ago while nothing ran: fire one for all of them, "
    f"all (the newest {MOST_FIRED} at the most), or none."
)
_OVERLAP = "For a firing that comes while the last one, or a task it submitted, still works."
_STATUSES = ("PENDING", "COMPLETED", "FAILED", "SKIPPED")


class ScheduleFields(Schema):
    """What a schedule consists of; how the facts fit together is checked on the whole."""

    name = Text(validate=validate.Length(1, 200))
    description = Text(validate=validate.Length(max=10_000))
    task_type = fields.String(metadata={"description": "An executor's name, see /executors."})
    cron_expression = Text(allow_none=True, metadata={"description": "Five fields.", "example": "0 8 * * *"})
    interval = StrictInteger(allow_none=True, validate=validate.Range(1, 1_000_000))
    interval_unit = fields.String(allow_none=True, validate=validate.OneOf(list(UNITS)))
    timezone = fields.String(metadata={"description": "An IANA zone.", "example": "Asia/Shanghai"})
    params = JsonObject(metadata={"description": "As the executor's schema says."})
    is_active = fields.Boolean(truthy={True}, falsy={False})
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


class ScheduleSchema(Schema):
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
    starts_at = fields.Raw(allow_none=True, metadata={"type": ["string", "null"], "format": "date-time"})
    ends_at = fields.Raw(allow_none=True, metadata={"type": ["string", "null"], "format": "date-time"})
    next_run_at = fields.Raw(allow_none=True, metadata={"type": ["string", "null"], "format": "date-time"})
    last_run_at = fields.Raw(allow_none=True, metadata={"type": ["string", "null"], "format": "date-time"})
    created_at = fields.Raw(metadata={"type": "string", "format": "date-time"})
    updated_at = fields.Raw(metadata={"type": "string", "format": "date-time"})


class ExecutionSchema(Schema):
    """One slot or firing by hand, and what became of it."""

    id = fields.Integer()
    schedule_id = fields.Integer()
    schedule_name = fields.String()
    task_type = fields.String()
    scheduled_for = fields.Raw(metadata={"type": "string", "format": "date-time"})
    trigger = fields.String(validate=validate.OneOf(["schedule", "manual"]))
    status = fields.String(validate=validate.OneOf(_STATUSES))
    reason = fields.String(
        allow_none=True, metadata={"description": "Why it was skipped: paused, overlap or misfire_policy."}
    )
    detail = fields.String(allow_none=True)
    late_seconds = fields.Float(allow_none=True, metadata={"description": "From its slot to its start."})
    started_at = fields.Raw(allow_none=True, metadata={"type": ["string", "null"], "format": "date-time"})
    completed_at = fields.Raw(allow_none=True, metadata={"type": ["string", "null"], "format": "date-time"})
    result = fields.Raw(allow_none=True, metadata={"type": ["object", "null"]})
    error = fields.Raw(allow_none=True, metadata={"type": ["object", "null"]})


class ScheduleQuery(Paging):
    """The query of the list of schedules."""

    is_active = fields.Boolean()
    task_type = Text()
    sort = sort_field(listing.SCHEDULES)


class ExecutionQuery(Paging):
    """The query of the list of executions."""

    schedule_id = fields.Integer(validate=POSITIVE_ID)
    status = fields.String(validate=validate.OneOf(_STATUSES))
    trigger = fields.String(validate=validate.OneOf(["schedule", "manual"]))
    scheduled_after = UtcDateTime()
    scheduled_before = UtcDateTime()
    sort = sort_field(listing.EXECUTIONS)


class PreviewQuery(Schema):
    """How far to look."""

    count = fields.Integer(load_default=10, validate=validate.Range(1, 1000))


class Slot(Schema):
    """A slot to come."""

    local = fields.AwareDateTime(metadata={"description": "In the schedule's zone."})
    utc = fields.AwareDateTime()


class ExecutorSchema(Schema):
    """A registered executor."""

    name = fields.String()
    description = fields.String()
    params_schema = fields.Raw(metadata={"type": "object"})


class SchedulerProcess(Schema):
    """A scheduler process that beats."""

    name = fields.String()
    host = fields.String()
    started_at = fields.AwareDateTime()
    last_heartbeat = fields.AwareDateTime()


class NextFiring(Schema):
    """What is due next."""

    schedule_id = fields.Integer()
    name = fields.String()
    next_run_at = fields.AwareDateTime()


class SchedulerStatus(Schema):
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
    try:
        ZoneInfo(data.get("timezone", "UTC"))
    except (KeyError, ValueError, OSError):
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


def shown(row: Row) -> dict[str, Any]:
    """A schedule's row as the API returns it."""
    facts = {**row, "next_run_at": row["next_slot"] if row["is_active"] else None}
    return {name: facts[name] for name in ScheduleSchema().fields}


def shown_execution(row: Row) -> dict[str, Any]:
    """An execution's row as the API returns it."""
    late = (row["started_at"] - row["scheduled_for"]).total_seconds() if row["started_at"] else None
    facts = {**row, "late_seconds": None if late is None else round(max(late, 0.0), 3)}
    return {name: facts[name] for name in ExecutionSchema().fields}


@blueprint.post("/tasks")
@blueprint.arguments(NewSchedule)
@blueprint.response(201, ScheduleSchema)
def create_schedule(wanted: dict[str, Any]) -> Any:
    """Create a schedule."""
    row = services.get().schedules.create(wanted)
    assert row  # noqa: S101 - only built-in ones may be there already
    return jsonify(shown(row)), 201, {"Location": url_for("scheduler.get_schedule", schedule_id=row["id"])}


@blueprint.get("/tasks")
@blueprint.arguments(ScheduleQuery, location="query", unknown="raise")
@blueprint.response(200, ScheduleSchema(many=True))
def list_schedules(query: dict[str, Any]) -> Any:
    """Schedules, newest first."""
    return page_of(listing.SCHEDULES, query, shown)


@blueprint.get("/tasks/<id:schedule_id>")
@blueprint.response(200, ScheduleSchema)
@blueprint.alt_response(404, description="There is none")
def get_schedule(schedule_id: int) -> Any:
    """One schedule."""
    return jsonify(shown(services.get().schedules.get(schedule_id)))


@blueprint.put("/tasks/<id:schedule_id>")
@blueprint.arguments(NewSchedule)
@blueprint.response(200, ScheduleSchema)
@blueprint.alt_response(404, description="There is none")
def replace_schedule(wanted: dict[str, Any], schedule_id: int) -> Any:
    """Put a schedule in another's place."""
    return jsonify(shown(services.get().schedules.change(schedule_id, wanted)))


@blueprint.patch("/tasks/<id:schedule_id>")
@blueprint.arguments(ScheduleFields)
@blueprint.response(200, ScheduleSchema)
@blueprint.alt_response(404, description="There is none")
def change_schedule(change: dict[str, Any], schedule_id: int) -> Any:
    """Change some facts of a schedule."""
    schedules = services.get().schedules
    whole = {**schedules.get(schedule_id), **change}
    # A new kind of timing takes the other one's place.
    if change.get("cron_expression") is not None and "interval" not in change:
        change |= {"interval": None, "interval_unit": None}
    if change.get("interval") is not None and "cron_expression" not in change:
        change |= {"cron_expression": None}
    try:
        check({**whole, **change})
    except ValidationError as error:
        abort(422, errors={"json": error.messages})
    return jsonify(shown(schedules.change(schedule_id, change)))


@blueprint.delete("/tasks/<id:schedule_id>")
@blueprint.response(204)
@blueprint.alt_response(404, description="There is none")
@blueprint.alt_response(409, description="It is built in")
def delete_schedule(schedule_id: int) -> Any:
    """Remove a schedule; its executions stay."""
    services.get().schedules.delete(schedule_id)
    return "", 204


@blueprint.post("/tasks/<id:schedule_id>/pause")
@blueprint.response(200, ScheduleSchema)
@blueprint.alt_response(404, description="There is none")
def pause_schedule(schedule_id: int) -> Any:
    """Pause a schedule: its slots are noted as skipped."""
    return jsonify(shown(services.get().schedules.change(schedule_id, {"is_active": False})))


@blueprint.post("/tasks/<id:schedule_id>/resume")
@blueprint.response(200, ScheduleSchema)
@blueprint.alt_response(404, description="There is none")
def resume_schedule(schedule_id: int) -> Any:
    """Have a paused schedule fire again."""
    return jsonify(shown(services.get().schedules.change(schedule_id, {"is_active": True})))


@blueprint.post("/tasks/<id:schedule_id>/trigger")
@blueprint.response(201, ExecutionSchema)
@blueprint.alt_response(404, description="There is none")
def trigger_schedule(schedule_id: int) -> Any:
    """Fire now, also when it is paused or still works; answers with the execution."""
    tools = services.get()
    execution_id = tools.schedules.by_hand(schedule_id)
    tools.firer.fire(execution_id)
    location = url_for("scheduler.get_execution", execution_id=execution_id)
    return jsonify(_execution(execution_id)), 201, {"Location": location}


@blueprint.get("/tasks/<id:schedule_id>/preview")
@blueprint.arguments(PreviewQuery, location="query", unknown="raise")
@blueprint.response(200, Slot(many=True))
@blueprint.alt_response(404, description="There is none")
def preview_schedule(query: dict[str, Any], schedule_id: int) -> Any:
    """Its next slots, in its own zone and in UTC."""
    schedule = services.get().schedules.get(schedule_id)
    zone = ZoneInfo(schedule["timezone"])
    upcoming = islice(timetable_of(schedule).slots(datetime.now(UTC)), query["count"])
    # The local one as text: JSON times are otherwise shown in UTC.
    return jsonify([{"local": slot.astimezone(zone).isoformat(), "utc": slot} for slot in upcoming])


@blueprint.get("/executions")
@blueprint.arguments(ExecutionQuery, location="query", unknown="raise")
@blueprint.response(200, ExecutionSchema(many=True))
def list_executions(query: dict[str, Any]) -> Any:
    """What became of every slot and every firing by hand, newest first."""
    return page_of(listing.EXECUTIONS, query, shown_execution)


def _execution(execution_id: int) -> dict[str, Any]:
    row = services.get().database.one("get_execution", {"id": execution_id})
    if row is None:
        raise NotFound(f"There is no execution {execution_id}.")
    return shown_execution(row)


@blueprint.get("/executions/<id:execution_id>")
@blueprint.response(200, ExecutionSchema)
@blueprint.alt_response(404, description="There is none")
def get_execution(execution_id: int) -> Any:
    """One execution."""
    return jsonify(_execution(execution_id))


@blueprint.get("/executors")
@blueprint.response(200, ExecutorSchema(many=True))
def list_executors() -> Any:
    """What schedules can run, with the JSON Schema of its parameters."""
    types = services.get().task_types
    return jsonify([
        {"name": found.name, "description": found.description, "params_schema": json_schema(found.params_schema(types))}
        for found in sorted(EXECUTORS.values(), key=lambda executor: executor.name)
    ])  # fmt: skip


@blueprint.get("/status")
@blueprint.response(200, SchedulerStatus)
@blueprint.alt_response(503, schema=SchedulerStatus, description="No scheduler process is alive")
def scheduler_status() -> Any:
    """The scheduler processes, how late they are, and what comes next."""
    with services.get().database.transaction() as session:
        alive = [row for row in session.all("alive", {"lease": LEASE_SECONDS}) if row["kind"] == "scheduler"]
        upcoming = session.all("next_firings", {"limit": 10})
        (lag,) = session.all("clock_lag")
    answer = jsonify(
        status="healthy" if alive else "unhealthy",
        schedulers=[{name: row[name] for name in SchedulerProcess().fields} for row in alive],
        last_tick=max((row["last_heartbeat"] for row in alive), default=None),
        lag_seconds=round(lag["lag"], 3),
        next_firings=[
            {"schedule_id": row["id"], "name": row["name"], "next_run_at": row["next_slot"]} for row in upcoming
        ],
    )
    return answer, 200 if alive else 503
