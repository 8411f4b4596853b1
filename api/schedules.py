"""/api/v1/scheduler: schedules, their firings, and the processes that fire them."""

from datetime import UTC, datetime
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from flask import jsonify, url_for
from marshmallow import ValidationError

from api import services
from api.bodies import Blueprint
from api.errors import abort
from api.paging import WHOLE, page_of, shown_by, whole
from api.schedule_schemas import (
    ExecutionQuery,
    ExecutionSchema,
    ExecutorSchema,
    NewSchedule,
    PreviewQuery,
    ScheduleFields,
    ScheduleQuery,
    SchedulerProcess,
    SchedulerStatus,
    ScheduleSchema,
    Slot,
    check,
)
from api.schemas import json_schema
from jobs.beats import LEASE_SECONDS
from jobs.errors import found
from jobs.store import listing
from jobs.store.database import Row
from scheduler.executors import EXECUTORS
from scheduler.planner import timetable_of

blueprint = Blueprint(
    "scheduler", __name__, url_prefix="/api/v1/scheduler", description="Schedules, their firings, and the clock"
)


_as_schedule = shown_by(ScheduleSchema)
_as_execution = shown_by(ExecutionSchema)
_as_process = shown_by(SchedulerProcess)


def shown(row: Row) -> dict[str, Any]:
    """A schedule's row as the API returns it."""
    facts = {**row, "next_run_at": row["next_slot"] if row["is_active"] else None}
    return _as_schedule(facts)


def shown_execution(row: Row) -> dict[str, Any]:
    """An execution's row as the API returns it."""
    late = (row["started_at"] - row["scheduled_for"]).total_seconds() if row["started_at"] else None
    facts = {**row, "late_seconds": None if late is None else round(max(late, 0.0), 3)}
    return _as_execution(facts)


def execution(execution_id: int) -> dict[str, Any]:
    """An execution as the API returns it; `NotFound` when there is none."""
    row = services.get().database.one("get_execution", {"id": execution_id})
    return shown_execution(found(row, "execution", execution_id))


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
def get_schedule(schedule_id: int) -> Any:
    """One schedule."""
    return jsonify(shown(services.get().schedules.get(schedule_id)))


@blueprint.put("/tasks/<id:schedule_id>")
@blueprint.arguments(NewSchedule)
@blueprint.response(200, ScheduleSchema)
def replace_schedule(wanted: dict[str, Any], schedule_id: int) -> Any:
    """Put a schedule in another's place."""
    return jsonify(shown(services.get().schedules.change(schedule_id, wanted)))


@blueprint.patch("/tasks/<id:schedule_id>")
@blueprint.arguments(ScheduleFields)
@blueprint.response(200, ScheduleSchema)
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
@blueprint.alt_response(409, description="It is built in")
def delete_schedule(schedule_id: int) -> Any:
    """Remove a schedule; its executions stay."""
    services.get().schedules.delete(schedule_id)
    return "", 204


@blueprint.post("/tasks/<id:schedule_id>/pause")
@blueprint.response(200, ScheduleSchema)
def pause_schedule(schedule_id: int) -> Any:
    """Pause a schedule: its slots are noted as skipped."""
    return jsonify(shown(services.get().schedules.change(schedule_id, {"is_active": False})))


@blueprint.post("/tasks/<id:schedule_id>/resume")
@blueprint.response(200, ScheduleSchema)
def resume_schedule(schedule_id: int) -> Any:
    """Have a paused schedule fire again."""
    return jsonify(shown(services.get().schedules.change(schedule_id, {"is_active": True})))


@blueprint.post("/tasks/<id:schedule_id>/trigger")
@blueprint.response(201, ExecutionSchema)
def trigger_schedule(schedule_id: int) -> Any:
    """Fire now, also when it is paused or still works; answers with the execution."""
    tools = services.get()
    with tools.database.transaction() as session:
        tools.firer.check_room(session, tools.schedules.get(schedule_id)["task_type"])
    execution_id = tools.schedules.by_hand(schedule_id)
    tools.firer.fire([execution_id])
    location = url_for("scheduler.get_execution", execution_id=execution_id)
    return jsonify(execution(execution_id)), 201, {"Location": location}


@blueprint.get("/tasks/<id:schedule_id>/preview")
@blueprint.arguments(PreviewQuery, location="query", unknown="raise")
@blueprint.response(200, Slot(many=True))
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


@blueprint.get("/executions/<id:execution_id>")
@blueprint.response(200, ExecutionSchema)
def get_execution(execution_id: int) -> Any:
    """One execution."""
    return jsonify(execution(execution_id))


@blueprint.get("/executors")
@blueprint.response(200, ExecutorSchema(many=True), headers=WHOLE)
def list_executors() -> Any:
    """What schedules can run, with the JSON Schema of its parameters."""
    types = services.get().task_types
    return whole([
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
        schedulers=[_as_process(row) for row in alive],
        last_tick=max((row["last_heartbeat"] for row in alive), default=None),
        lag_seconds=round(lag["lag"], 3),
        next_firings=[
            {"schedule_id": row["id"], "name": row["name"], "next_run_at": row["next_slot"]} for row in upcoming
        ],
    )
    return answer, 200 if alive else 503
