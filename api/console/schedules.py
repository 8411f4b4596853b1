"""Schedules: what comes next, what became of every slot, and the form with its preview."""

from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from flask import request, url_for
from marshmallow import ValidationError

from api import schedules as shapes
from api import services
from api.console.calendar import month_of
from api.console.forms import fields_of
from api.console.frame import is_refresh, may, show
from api.console.language import gettext as _
from api.console.tasks import asked, next_page, page_of
from api.schedule_schemas import ExecutionQuery, ScheduleFields, check
from api.schemas import json_schema
from jobs import zones
from jobs.beats import LEASE_SECONDS
from jobs.store import listing
from scheduler.executors import EXECUTORS
from scheduler.planner import timetable_of
from scheduler.schedules import anchor_of
from scheduler.timetable import UNITS

_UPCOMING: Final = 10
_TIMES: Final = ("cron_expression", "interval", "interval_unit", "timezone", "starts_at", "ends_at")


def schedules() -> str:
    """All of them, what comes next, and the month."""
    tools = services.get()
    page = page_of(listing.SCHEDULES, {"sort": "id", "cursor": request.args.get("cursor")}, 200)
    with tools.database.transaction() as session:
        upcoming = session.all("next_firings", {"limit": _UPCOMING})
        alive = session.all("alive", {"lease": LEASE_SECONDS})
    return show(
        "schedules.html",
        schedules=[shapes.shown(row) for row in page.rows],
        next=next_page(page),
        upcoming=upcoming,
        is_alive=any(row["kind"] == "scheduler" for row in alive),
        calendar=None if is_refresh() else month_of(tools.database, request.args.get("month")),
        may_change=may("admin"),
    )


def schedules_one(schedule_id: int) -> str:
    """One: its next slots, its month, its firings."""
    tools = services.get()
    row = tools.schedules.get(schedule_id)
    executions = page_of(listing.EXECUTIONS, {"schedule_id": schedule_id}, 20)
    return show(
        "schedule.html",
        schedule=shapes.shown(row),
        is_builtin=row["builtin"] is not None,
        slots=list(islice(timetable_of(row).slots(datetime.now(UTC)), _UPCOMING)) if row["is_active"] else [],
        executions=[shapes.shown_execution(one) for one in executions.rows],
        calendar=month_of(tools.database, request.args.get("month"), schedule_id),
        may_change=may("admin"),
    )


def schedules_executions() -> str:
    """What became of slots and firings by hand."""
    page = page_of(listing.EXECUTIONS, asked(ExecutionQuery()))
    return show(
        "executions.html",
        executions=[shapes.shown_execution(row) for row in page.rows],
        next=next_page(page),
    )


def schedules_new() -> str:
    """The form for a new one."""
    kind = request.args.get("task_type", "")
    facts = {"task_type": kind if kind in EXECUTORS else "async_content_generation", "is_active": True, "params": {}}
    facts |= {"timezone": services.get().settings.tz_default, "cron_expression": "0 8 * * *"}
    return _form(facts, url_for("scheduler.create_schedule"), "POST")


def schedules_edit(schedule_id: int) -> str:
    """The form for one that is there."""
    facts = dict(services.get().schedules.get(schedule_id))
    target = url_for("scheduler.change_schedule", schedule_id=schedule_id)
    if (kind := request.args.get("task_type", facts["task_type"])) != facts["task_type"] and kind in EXECUTORS:
        facts |= {"task_type": kind, "params": {}}
    return _form(facts, target, "PATCH")


def _form(facts: dict[str, Any], target: str, method: str) -> str:
    executor = EXECUTORS.get(facts["task_type"])
    params = json_schema(executor.params_schema(services.get().task_types)) if executor else {"properties": {}}
    fields = json_schema(ScheduleFields())["properties"]
    return show(
        "schedule_form.html",
        facts=facts,
        target=target,
        method=method,
        executors=sorted(EXECUTORS),
        about=executor.description if executor else "",
        params=fields_of(params, facts["params"], prefix="params."),
        units=list(UNITS),
        zones=sorted(zones.names()),
        policies={name: fields[name] for name in ("misfire_policy", "overlap_policy")},
        accounts=page_of(listing.ACCOUNTS, {}, 100).rows,
    )


def schedules_preview(schedule_id: int | None = None) -> str:
    """The next slots of times that are just being written, as a piece of a page; also of a schedule that is there."""
    before = services.get().schedules.get(schedule_id) if schedule_id else None
    given: dict[str, Any] = {name: request.args[name] for name in _TIMES if request.args.get(name)}
    try:
        if "interval" in given:
            given["interval"] = int(given["interval"])
        facts = dict.fromkeys(_TIMES) | ScheduleFields().load(given)
        check({**facts, "timezone": facts["timezone"] or "UTC", "task_type": "cleanup"})
    except (ValidationError, ValueError) as error:
        problems = (
            error.messages_dict if isinstance(error, ValidationError) else {"interval": [_("This is not a number.")]}
        )
        said = " ".join(text for texts in problems.values() for text in texts)
        return show("slots.html", slots=[], said=said)
    now = datetime.now(UTC)
    facts |= {"anchor": anchor_of(facts, now, before), "timezone": facts["timezone"] or "UTC"}
    return show("slots.html", slots=list(islice(timetable_of(facts).slots(now), 5)), said="")


def schedules_execution(execution_id: int) -> str:
    """One firing."""
    return show("execution.html", execution=shapes.execution(execution_id))


PAGES: Final = {
    "/schedules": ("schedules", schedules),
    "/schedules/new": ("schedules_new", schedules_new),
    "/schedules/preview": ("schedules_preview", schedules_preview),
    "/schedules/executions": ("schedules_executions", schedules_executions),
    "/schedules/executions/<id:execution_id>": ("schedules_execution", schedules_execution),
    "/schedules/<id:schedule_id>": ("schedules_one", schedules_one),
    "/schedules/<id:schedule_id>/edit": ("schedules_edit", schedules_edit),
    "/schedules/<id:schedule_id>/preview": ("schedules_preview", schedules_preview),
}
