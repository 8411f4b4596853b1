"""Only what can be stored gets in."""

from datetime import date
from typing import Any

import pytest
from marshmallow import Schema, ValidationError

from jobs.fields import Day, JsonObject, QueryInteger, StrictBoolean, StrictInteger, Text


class Form(Schema):
    count = QueryInteger()
    switch = StrictBoolean()
    text = Text()
    number = StrictInteger()
    document = JsonObject()
    day = Day()


def nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {"a": [value]}
    return value


@pytest.mark.parametrize(
    "data",
    [
        {"text": "中文 🙂"},
        {"number": -5},
        {"switch": True},
        {"switch": False},
        {"number": 2**63 - 1},
        {"document": {"a": [1, 2.5, None, True, {"b": "c"}]}},
        {"document": nested(10)},
    ],
)
def test_good_values_pass_unchanged(data: dict[str, Any]) -> None:
    assert Form().load(data) == data


def test_a_number_without_a_fraction_is_an_integer_however_it_is_written() -> None:
    number = Form().load({"number": 5.0})["number"]
    assert (number, type(number)) == (5, int)
    assert Form().load({"count": "-7"})["count"] == -7
    assert Form().load({"count": "7.0"})["count"] == 7


def test_a_day_is_a_date() -> None:
    assert Form().load({"day": "2025-01-31"}) == {"day": date(2025, 1, 31)}


@pytest.mark.parametrize(
    "data",
    [
        *({"day": day} for day in ("20250131", "2025-W01-1", "2025-1-31", "2025-01-32", "2025-01-31 ", 20250131, None)),
        {"text": "a\x00b"},
        {"text": "\ud800"},
        {"text": 5},
        {"text": None},
        {"number": "5"},
        {"number": 5.5},
        {"number": 1e300},
        {"number": True},
        {"switch": 0},
        {"switch": 1},
        {"switch": 1.0},
        {"switch": "true"},
        {"switch": None},
        {"count": "1_000"},
        {"count": "１"},
        {"count": " 1"},
        {"count": "5.5"},
        {"count": "-9223372036854775809"},
        {"count": ""},
        {"number": 2**63},
        {"document": []},
        {"document": {"a\x00": 1}},
        {"document": {"a": ["\x00"]}},
        {"document": {"a": "\udfff"}},
        {"document": nested(17)},
        {"document": nested(50_000)},
    ],
)
def test_the_rest_is_refused_by_name(data: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        Form().load(data)
    assert list(caught.value.messages) == list(data)
