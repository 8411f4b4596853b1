"""Work does not take more than its part of the time."""

from contextlib import suppress

import pytest

from jobs import pace
from jobs.pace import Pace


class Clock:
    """Stands for the module `time`."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(pace, "time", made)
    return made


def work(pace: Pace, clock: Clock, seconds: float) -> float:
    """The rest after work that took so long."""
    with pace.at_work():
        clock.now += seconds
    return round(pace.rest, 6)


def test_the_longer_it_took_the_later_it_is_done_again(clock: Clock) -> None:
    made = Pace(0.1)
    assert made.rest == 0
    assert work(made, clock, 0.02) == 0.18
    assert work(made, clock, 1.0) == 9.0
    clock.now += 8.5
    assert round(made.rest, 6) == 0.5
    clock.now += 10
    assert made.rest == 0


def test_what_is_quick_is_free_but_for_the_least_pause(clock: Clock) -> None:
    assert work(Pace(0.05, quick=0.03), clock, 0.03) == 0
    assert work(Pace(0.05, quick=0.03), clock, 0.04) == 0.76
    assert work(Pace(0.05, least=1.0), clock, 0.001) == 1.0


def test_what_failed_may_be_tried_at_once(clock: Clock) -> None:
    made = Pace(0.05)
    with suppress(RuntimeError), made.at_work():
        clock.now += 1
        raise RuntimeError
    assert made.rest == 0
