"""`daily_life`: a day for a date and an account or persona: its schedule, then small experiences in it."""

import re
from datetime import date
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from jobs import structured
from jobs.fields import Day, StrictInteger, Text
from jobs.handlers.context import Context
from jobs.handlers.registry import task_type
from jobs.retry import PATIENT

_TIME = validate.Regexp(re.compile(r"([01]\d|2[0-3]):[0-5]\d\Z|24:00\Z"), error="Not a time of the day (HH:MM).")
_LINE = validate.Length(max=1000)


class DailyLifeInput(Schema):
    """Input of `daily_life`."""

    target_date = Day(required=True)
    account_id = StrictInteger(allow_none=True, validate=validate.Range(1))
    persona = Text(allow_none=True, validate=validate.Length(max=10_000))
    weather = Text(allow_none=True, validate=_LINE)
    major_events = fields.List(Text(validate=_LINE), allow_none=True, validate=validate.Length(max=50))


class ScheduleItem(Schema):
    """One entry of the day; times are HH:MM on its date."""

    start = fields.String(required=True, validate=_TIME)
    end = fields.String(required=True, validate=_TIME)
    activity = Text(required=True, validate=validate.Length(1, 1000))
    place = Text(load_default="", validate=_LINE)
    mood = Text(load_default="", validate=_LINE)
    note = Text(load_default="", validate=_LINE)


class DaySchedule(Schema):
    """The first answer."""

    schedule_items = fields.List(
        fields.Nested(ScheduleItem, unknown="exclude"), required=True, validate=validate.Length(1, 100)
    )

    @validates_schema(skip_on_field_errors=True)
    def _times_in_order(self, data: dict[str, Any], **_: Any) -> None:
        earlier = "00:00"
        for number, item in enumerate(data["schedule_items"]):
            if item["end"] <= item["start"]:
                raise ValidationError(f"item {number} ends at {item['end']}, not after {item['start']}")
            if item["start"] < earlier:
                raise ValidationError(f"item {number} starts at {item['start']}, before the last one ended")
            earlier = item["end"]


class MicroExperience(Schema):
    """A small experience in one item of the day."""

    item = StrictInteger(required=True)
    experience = Text(required=True, validate=validate.Length(1, 5000))


class Experiences(Schema):
    """The second answer; `items` is how many the first one had."""

    def __init__(self, items: int) -> None:
        super().__init__()
        self._items = items

    micro_experiences = fields.List(
        fields.Nested(MicroExperience, unknown="exclude"), required=True, validate=validate.Length(1)
    )

    @validates_schema(skip_on_field_errors=True)
    def _of_known_items(self, data: dict[str, Any], **_: Any) -> None:
        for experience in data["micro_experiences"]:
            if not 0 <= experience["item"] < self._items:
                raise ValidationError(f"there is no item {experience['item']}")


_OFFLINE_DAY = {
    "schedule_items": [
        {
            "start": "09:00",
            "end": "10:00",
            "activity": "[offline] No model was called: set LLM_BASE_URL to plan real days",
            "place": "nowhere",
            "mood": "calm",
            "note": "",
        }
    ]
}
_OFFLINE_EXPERIENCES = {"micro_experiences": [{"item": 0, "experience": "[offline] No model was called."}]}


@task_type(
    "daily_life",
    input_schema=DailyLifeInput,
    timeout_seconds=300,
    max_retries=3,
    retry=PATIENT,
    calls_model=True,
)
async def daily_life(context: Context) -> dict[str, Any]:
    """Plan the day, then fill it; the result has `date`, `schedule_items` and `micro_experiences`."""
    given = {name: context.input.get(name) for name in ("persona", "weather", "major_events")}
    account_id = context.input.get("account_id")
    account = await context.account(account_id) if account_id else None
    day = date.fromisoformat(context.input["target_date"])
    facts = {"date": day.isoformat(), "weekday": day.strftime("%A"), "account": account, **given}
    planned = await structured.ask(
        context, context.prompts.render("daily_life_schedule", **facts), DaySchedule(), _OFFLINE_DAY
    )
    items = planned["schedule_items"]
    lived = await structured.ask(
        context,
        context.prompts.render("daily_life_experiences", schedule_items=items, **facts),
        Experiences(len(items)),
        _OFFLINE_EXPERIENCES,
    )
    return {"date": day.isoformat(), "schedule_items": items, **lived}
