"""/api/v1/daily-life: make, or read back, a date's schedule."""

from typing import Any

from flask import g, jsonify
from marshmallow import Schema, fields

from api import services
from api.bodies import Answer, Blueprint
from api.schemas import POSITIVE_ID, TaskSchema
from api.tasks import location_of
from jobs.errors import NotFound
from jobs.fields import Day, QueryInteger
from jobs.handlers.daily_life import DailyLifeInput
from jobs.shapes import shown_task

blueprint = Blueprint("daily_life", __name__, url_prefix="/api/v1/daily-life", description="A day's schedule")


class DayQuery(Schema):
    """Which day, and whose."""

    target_date = Day(required=True)
    account_id = QueryInteger(validate=POSITIVE_ID)


class DayBody(DailyLifeInput):
    """What may be said about the day."""

    class Meta:
        exclude = ("target_date", "account_id")


class DayTaskSchema(TaskSchema):
    """The task that plans a day."""

    task_id = fields.Integer(metadata={"description": "Its id, once more."})


class DailyLifeSchema(Answer):
    """A day as returned."""

    date = fields.Date()
    account_id = fields.Integer(allow_none=True)
    task_id = fields.Integer()
    schedule_items = fields.List(fields.Raw(metadata={"type": "object"}))
    micro_experiences = fields.List(fields.Raw(metadata={"type": "object"}))
    created_at = fields.AwareDateTime()
    updated_at = fields.AwareDateTime()


@blueprint.post("")
@blueprint.arguments(DayQuery, location="query", unknown="raise")
@blueprint.arguments(DayBody, required=False)
@blueprint.response(202, DayTaskSchema)
def make_day(query: dict[str, Any], body: dict[str, Any]) -> Any:
    """Plan a date's day; a second run for the date replaces the first."""
    given = {"target_date": query["target_date"].isoformat(), **body}
    if "account_id" in query:
        given["account_id"] = query["account_id"]
    submitted = services.get().submitter.task(
        {"task_type": "daily_life", "input": given}, caller=g.caller, request_id=g.request_id
    )
    task_id = submitted.row["id"]
    return jsonify({**shown_task(submitted.row), "task_id": task_id}), 202, {"Location": location_of(task_id)}


@blueprint.get("")
@blueprint.arguments(DayQuery, location="query", unknown="raise")
@blueprint.response(200, DailyLifeSchema)
@blueprint.alt_response(404, description="None was made for the date")
def read_day(query: dict[str, Any]) -> Any:
    """Read a date's day back."""
    day, account_id = query["target_date"], query.get("account_id", 0)
    found = services.get().daily_lives.get(day, account_id)
    if found is None:
        raise NotFound(f"There is no schedule for {day.isoformat()}.")
    return jsonify(found)
