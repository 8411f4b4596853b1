"""Executors that submit one task: `submit_task` for any type, and one each for the shipped types."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from jobs.fields import JsonObject, StrictInteger, Text, not_blank
from jobs.handlers.daily_life import DailyLifeInput
from jobs.handlers.maintenance import BackupInput, CleanupInput
from jobs.handlers.registry import TaskType
from jobs.handlers.reports import PeriodInput
from jobs.priority import DEFAULT_PRIORITY, MAX_PRIORITY, MIN_PRIORITY
from scheduler.executors.registry import Firing, executor, result_of


class SubmitTaskParams(Schema):
    """Parameters of `submit_task`."""

    def __init__(self, types: Mapping[str, TaskType]) -> None:
        super().__init__()
        self._types = types

    task_type = fields.String(load_default="text_generation")
    prompt = Text(validate=not_blank)
    model = Text(validate=validate.Length(1, 200))
    input = JsonObject(load_default=dict)
    priority = StrictInteger(load_default=DEFAULT_PRIORITY, validate=validate.Range(MIN_PRIORITY, MAX_PRIORITY))
    timeout_seconds = StrictInteger(validate=validate.Range(1, 86_400))
    max_retries = StrictInteger(validate=validate.Range(0, 100))
    metadata = JsonObject()

    @validates_schema(skip_on_field_errors=True)
    def _fits_its_type(self, data: dict[str, Any], **_: Any) -> None:
        kind = self._types.get(data["task_type"])
        if kind is None:
            raise ValidationError("Unknown task type.", "task_type")
        if kind.needs_prompt and "prompt" not in data:
            raise ValidationError("Missing data for required field.", "prompt")
        try:
            # As loaded, with its defaults: what a firing submits is not looked at again.
            data["input"] = kind.inputs.load(data["input"])
        except ValidationError as error:
            raise ValidationError({"input": error.messages}) from None


class DailyLifeParams(DailyLifeInput):
    """Parameters of `daily_life`: its input, for the day of the firing or some days later."""

    class Meta:
        exclude = ("target_date",)

    days_ahead = StrictInteger(load_default=0, validate=validate.Range(0, 366))


def _one(firing: Firing, **task: Any) -> dict[str, Any]:
    (row,) = firing.submit([task])
    made = {"task_id": row["id"], "task_type": row["task_type"]}
    return result_of(f"Successfully submitted 1 {row['task_type']} task", [made])


@executor("submit_task", SubmitTaskParams)
def submit_task(firing: Firing) -> dict[str, Any]:
    """Submits one task of any type with a fixed input."""
    return _one(firing, **firing.params)


@executor("daily_life", lambda _types: DailyLifeParams())
def daily_life(firing: Firing) -> dict[str, Any]:
    """Plans the day of the firing in the schedule's zone, or one some days later, for an account or persona."""
    params = dict(firing.params)
    slot = firing.execution["scheduled_for"].astimezone(ZoneInfo(firing.execution["timezone"]))
    day = (slot + timedelta(days=params.pop("days_ahead"))).date()
    return _one(firing, task_type="daily_life", input={"target_date": day.isoformat(), **params})


def _of_type(name: str, schema: type[Schema], description: str) -> None:
    def run(firing: Firing) -> dict[str, Any]:
        return _one(firing, task_type=name, input=firing.params)

    run.__doc__ = description
    executor(name, lambda _types: schema(), is_upkeep=True)(run)


_of_type("database_backup", BackupInput, "Dumps the database and removes old dumps.")
_of_type("cleanup", CleanupInput, "Removes what is past its retention.")
_of_type("cost_statistics", PeriodInput, "Adds up tokens and money by model, account, task type and day.")
_of_type("monitoring_report", PeriodInput, "Counts tasks, outcomes, times, errors and money.")
