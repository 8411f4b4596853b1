"""What waits is counted at once where that is quick, and not all the time where it is not."""

from typing import Any, cast

import pytest

from jobs import pace
from jobs.depths import Depths
from jobs.store.database import Session


class Counting:
    """A session on whose clock a count takes some time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now = 1000.0
        self.asked = 0

    def all(self, _name: str) -> list[dict[str, Any]]:
        self.now += self.seconds
        self.asked += 1
        return [{"queue": "low", "depth": self.asked}]

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(("seconds", "after", "asked"), [(0.001, 0, 2), (0.3, 5.5, 1), (0.3, 5.8, 2)])
def test_a_count_is_given_again_for_as_long_as_it_is_worth(
    seconds: float, after: float, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting, known = Counting(seconds), Depths()
    monkeypatch.setattr(pace, "time", counting)
    session = cast(Session, counting)
    known.count(session)
    counting.now += after
    assert known.count(session) == [{"queue": "low", "depth": asked}]
