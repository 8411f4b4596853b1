"""How long things took, as counts in buckets that grow by 2^(1/6): small, and exact enough. Pure."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final

PER_DOUBLING: Final = 6
"""Bucket b has the seconds above 2^((b-1)/6) and up to 2^(b/6); the migration and `count_ended` say the same."""

_QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class Histogram:
    """Counted durations, from columns: the buckets' numbers, how many fell into each, their sums in microseconds.

    The same bucket may come several times.
    """

    def __init__(self, numbers: Iterable[int] = (), counts: Iterable[int] = (), sums: Iterable[int] = ()) -> None:
        self._buckets = sorted(bucket for bucket in zip(numbers, counts, sums, strict=True) if bucket[1])
        self._counted = list(accumulate(bucket[1] for bucket in self._buckets))
        self.count = self._counted[-1] if self._counted else 0
        self.seconds = sum(bucket[2] for bucket in self._buckets) / 1e6

    def quantile(self, part: float) -> float:
        """The duration, in seconds, that `part` of all do not exceed; there must be some."""
        rank = max(1, math.ceil(part * self.count))
        position = bisect_left(self._counted, rank)
        number, count, microseconds = self._buckets[position]
        # Evenly spread around the bucket's mean. When all in it are alike, that is up to 6% off.
        mean = microseconds / 1e6 / count
        lower, upper = 2 ** ((number - 1) / PER_DOUBLING), 2 ** (number / PER_DOUBLING)
        reach = max(0.0, min(mean - lower, upper - mean))
        rank_within = rank - (self._counted[position] - count)
        return mean + reach * (2 * (rank_within - 0.5) / count - 1)

    def summary(self) -> dict[str, float | None]:
        """`mean`, `p50`, `p95` and `p99` in seconds; None when there are none."""
        if not self.count:
            return dict.fromkeys(("mean", *_QUANTILES))
        found = {"mean": self.seconds / self.count, **{name: self.quantile(part) for name, part in _QUANTILES.items()}}
        return {name: round(value, 4) for name, value in found.items()}

    def up_to(self, doublings: Sequence[int]) -> list[tuple[str, int]]:
        """Prometheus's buckets: for each of 2^doublings seconds, and for infinity, how many do not exceed it."""
        found = [
            (str(2.0**power), sum(count for number, count, _ in self._buckets if number <= power * PER_DOUBLING))
            for power in doublings
        ]
        return [*found, ("+Inf", self.count)]
