"""Plots: shapes within their frame, gaps that are gaps, the numbers beside them; amounts; forms made from schemas."""

import re

import pytest

from api.console.forms import fields_of, kind_of
from api.console.plots import HEIGHT, WIDTH, Plot, Series
from api.console.words import money


def plot(*rows: list[float | None], bars: bool = False, top: float | None = None) -> Plot:
    series = [Series(str(number), values) for number, values in enumerate(rows)]
    return Plot("t", [str(number) for number in range(len(rows[0]))], series, str, bars=bars, top=top)


@pytest.mark.parametrize(("most", "axis"), [(1, 1), (3, 5), (7, 10), (12, 20), (21, 25), (99, 100), (0.3, 0.5)])
def test_the_axis_ends_at_a_number_that_is_easy_to_read(most: float, axis: float) -> None:
    assert plot([0.0, most]).highest == axis


def test_bars_stand_on_one_another() -> None:
    made = plot([6.0, 0.0], [2.0, 4.0], bars=True)
    assert made.highest == 10
    (_, _, lower), (_, _, upper) = made.shapes()
    assert lower.count("M") == 1
    assert re.match(r"M30.00 64.0V32.0", upper)


def test_a_line_has_gaps_and_dots_where_nothing_is_beside() -> None:
    shapes = dict(zip(("line", "dots"), plot([1.0, 2.0, None, 4.0, None]).shapes(), strict=True))
    assert shapes["line"][2].count("M") == 1
    assert shapes["dots"][2] == f"M{WIDTH * 3 / 4:.2f} {HEIGHT * 0.2:.1f}h0"


def test_parts_of_a_whole_may_be_zero_and_counts_are_then_nothing() -> None:
    assert not plot([0.0, None], top=1.0).is_empty
    assert plot([0.0, 0.0]).is_empty
    assert plot([None, None], top=1.0).is_empty
    assert plot([0.0, 3.0]).rows == [("1", ["3.0"])]


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ({"type": "string", "maxLength": 200}, "text"),
        ({"type": ["string", "null"], "maxLength": 10_000}, "long"),
        ({"type": "string"}, "long"),
        ({"type": "string", "format": "date"}, "date"),
        ({"type": "integer"}, "integer"),
        ({"type": "boolean"}, "boolean"),
        ({"enum": ["a", "b"], "type": "string"}, "choice"),
        ({"type": "array", "items": {"type": "string"}}, "lines"),
        ({"type": "array", "items": {"type": "integer"}}, "numbers"),
        ({"type": "array", "items": {"type": "object"}}, "json"),
        ({"type": "object"}, "json"),
        ({"oneOf": [{"type": "string"}, {"type": "array"}]}, "either"),
        ({}, "json"),
    ],
)
def test_each_shape_has_its_control(shape: dict[str, object], kind: str) -> None:
    assert kind_of(shape) == kind


def test_what_is_required_comes_first_and_values_fill_the_controls() -> None:
    schema = {
        "properties": {
            "b": {"type": "array", "items": {"type": "string"}},
            "a": {"type": "integer", "maximum": 2**63 - 1, "minimum": 1},
            "c": {"type": "boolean", "default": True},
        },
        "required": ["a"],
    }
    made = fields_of(schema, {"b": ["x", "y"], "a": 7}, prefix="input.")
    assert [(one.path, one.value) for one in made] == [("input.a", "7"), ("input.b", "x\ny"), ("input.c", "true")]
    assert made[0].limits == {"min": 1}


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        (None, "–"),
        (0, "0.00"),
        (0.0, "0.00"),
        (0.0000123, "0.0000123"),
        (0.5, "0.500"),
        (1, "1.00"),
        (1234.5, "1,234.50"),
    ],
)
def test_amounts_of_money_keep_the_digits_that_count(amount: float | None, said: str) -> None:
    assert money(amount) == said
