"""What the decorator refuses, before a process starts with it."""

from typing import Any

import pytest
from marshmallow import Schema

from jobs.handlers import registry
from jobs.handlers.context import Context
from jobs.retry import RetryPolicy


class Nothing(Schema):
    """No input."""


async def handle(_context: Context) -> dict[str, Any]:
    return {}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})


@pytest.mark.parametrize(
    ("defaults", "said"),
    [
        ({"retry": {"strategy": "fixed"}}, "retry must be a jobs.retry.RetryPolicy"),
        ({"max_retrys": 1}, "there is no max_retrys"),
        ({"mode": "thread"}, "does not fit this function"),
        ({"mode": "fibre"}, "there is no mode 'fibre'"),
    ],
)
def test_a_wrong_default_is_named(defaults: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match="task type 'own': ") as caught:
        registry.task_type("own", input_schema=Nothing, **defaults)(handle)
    assert said in str(caught.value)


def test_a_policy_of_its_own_is_kept() -> None:
    registry.task_type("own", input_schema=Nothing, retry=RetryPolicy("fixed", base_delay=5))(handle)
    assert registry._registered["own"].retry.delay(3) == 5
