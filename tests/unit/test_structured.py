"""Structured answers are checked, and repaired once."""

import asyncio
from typing import Any

import pytest
from marshmallow import Schema, ValidationError, fields

from jobs.errors import AttemptError
from jobs.handlers.context import Context
from jobs.handlers.daily_life import DaySchedule, Experiences
from jobs.prompts import Prompts
from jobs.structured import ask, parse
from tests.support.contexts import context_for
from tests.support.scripted import Script


class Shape(Schema):
    a = fields.Integer(required=True)


@pytest.mark.parametrize("text", ['{"a": 1}', '```json\n{"a": 1}\n```', '  ```\n{"a": 1, "more": 2}```  '])
def test_json_with_or_without_a_fence_is_read(text: str) -> None:
    assert parse(text, Shape()) == {"a": 1}


def test_a_runaway_answer_is_read_in_no_time() -> None:
    with pytest.raises(ValidationError):
        parse("```json\n" + "\n" * 1_000_000, Shape())


@pytest.mark.parametrize("text", ["", "a: 1", "[1]", "null", '{"b": 1}', 'Sure! {"a": 1}'])
def test_the_rest_does_not_fit(text: str) -> None:
    with pytest.raises(ValidationError):
        parse(text, Shape())


def context_with(script: Script) -> Context:
    return context_for(providers=script, prompts=Prompts())


def test_an_answer_that_does_not_fit_is_repaired_once() -> None:
    script = Script("oops", '{"a": 5}')
    context = context_with(script)
    assert asyncio.run(ask(context, "give a", Shape(), {})) == {"a": 5}
    first, second = script.requests
    assert [message["role"] for message in second.messages] == ["user", "assistant", "user"]
    assert "not JSON" in second.messages[-1]["content"]
    assert first.options["response_format"] == {"type": "json_object"}
    assert context.usage == {"total_tokens": 20}


def test_a_second_failure_is_an_invalid_response() -> None:
    with pytest.raises(AttemptError) as caught:
        asyncio.run(ask(context_with(Script("oops", '{"b": 1}')), "give a", Shape(), {}))
    assert caught.value.error.code == "invalid_response"
    assert not caught.value.error.retryable


def item(start: str, end: str) -> dict[str, str]:
    return {"start": start, "end": end, "activity": "x"}


@pytest.mark.parametrize(
    "items",
    [
        [],
        [item("25:00", "26:00")],
        [item("10:00", "09:00")],
        [item("10:00", "10:00")],
        [item("09:00", "11:00"), item("10:00", "12:00")],
        [item("12:00", "13:00"), item("09:00", "10:00")],
        [{"start": "09:00", "end": "10:00"}],
        [item("9:00", "10:00")],
    ],
)
def test_a_days_times_are_in_order_and_within_the_day(items: list[dict[str, str]]) -> None:
    with pytest.raises(ValidationError):
        DaySchedule().load({"schedule_items": items})


def test_a_whole_day_fits() -> None:
    DaySchedule().load({"schedule_items": [item("00:00", "08:30"), item("08:30", "24:00")]})


def test_experiences_belong_to_items() -> None:
    Experiences(2).load({"micro_experiences": [{"item": 1, "experience": "x"}]})
    with pytest.raises(ValidationError):
        Experiences(2).load({"micro_experiences": [{"item": 2, "experience": "x"}]})


def test_prompts_can_be_replaced(tmp_path: Any) -> None:
    (tmp_path / "repair.j2").write_text("MINE {{ problem }}")
    assert Prompts(tmp_path).render("repair", problem="p") == "MINE p"
    assert "JSON" in Prompts().render("repair", problem="p")
