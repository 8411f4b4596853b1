"""Durations in growing buckets still tell their quantiles."""

import math
import random
from collections.abc import Callable, Iterable

import pytest

from jobs.histogram import PER_DOUBLING, Histogram


def counted(durations: Iterable[float]) -> Histogram:
    found: dict[int, tuple[int, int]] = {}
    for seconds in durations:
        number = math.ceil(PER_DOUBLING * math.log2(seconds))
        count, microseconds = found.get(number, (0, 0))
        found[number] = count + 1, microseconds + round(1e6 * seconds)
    return Histogram(found, *zip(*found.values(), strict=True))


@pytest.mark.parametrize(
    "draw",
    [
        lambda dice: dice.lognormvariate(0, 1),
        lambda dice: dice.expovariate(0.1) + 0.01,
        lambda dice: dice.uniform(1, 1.5),
        lambda dice: abs(dice.gauss(2, 0.1)) + 0.001,
        lambda dice: dice.choice([0.02, 300.0]),
        lambda dice: 1.3,
    ],
    ids=["lognormal", "exponential", "uniform", "narrow", "two peaks", "all alike"],
)
@pytest.mark.parametrize("size", [7, 200, 20_000])
def test_quantiles_are_within_six_percent(draw: Callable[[random.Random], float], size: int) -> None:
    dice = random.Random(1)
    durations = sorted(draw(dice) for _ in range(size))
    histogram = counted(durations)
    for part in (0.5, 0.95, 0.99):
        exact = durations[math.ceil(part * size) - 1]
        assert histogram.quantile(part) == pytest.approx(exact, rel=0.06)


def test_a_single_duration_is_told_exactly() -> None:
    assert counted([1.3]).summary() == {"mean": 1.3, "p50": 1.3, "p95": 1.3, "p99": 1.3}


def test_of_none_there_is_nothing_to_tell() -> None:
    assert set(Histogram().summary().values()) == {None}
    assert Histogram([3], [0], [0]).count == 0


def test_prometheus_gets_cumulative_buckets_with_round_bounds() -> None:
    histogram = counted([0.4, 0.5, 0.6, 1.0, 3.0, 4.0, 100.0])
    assert histogram.up_to((-1, 0, 2, 3)) == [("0.5", 2), ("1.0", 4), ("4.0", 6), ("8.0", 6), ("+Inf", 7)]
    assert histogram.seconds == pytest.approx(109.5)
