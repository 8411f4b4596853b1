"""How long things took, as counts in buckets that grow by 2^(1/4): small, and exact enough. Pure."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

PER_DOUBLING: Final = 4
"""Bucket b has the seconds above 2^((b-1)/4) and up to 2^(b/4); the migration and `count_ended` say the same."""

_QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class Bucket(NamedTuple):
    """How many fell into bucket `number`, and their sum."""

    number: int
    filled: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counted durations; `buckets` in the order of their numbers."""

    buckets: tuple[Bucket, ...] = ()

    @classmethod
    def of(cls, numbers: Iterable[int], counts: Iterable[int], seconds: Iterable[float]) -> "Histogram":
        """From columns; empty buckets are left out."""
        filled = (Bucket(*row) for row in zip(numbers, counts, seconds, strict=True) if row[1])
        return cls(tuple(sorted(filled)))

    @property
    def count(self) -> int:
        """How many were counted."""
        return sum(bucket.filled for bucket in self.buckets)

    @property
    def seconds(self) -> float:
        """Their sum."""
        return sum(bucket.seconds for bucket in self.buckets)

    def quantile(self, part: float) -> float | None:
        """The duration, in seconds, that `part` of all do not exceed; None when there are none."""
        rank = max(1, math.ceil(part * self.count))
        before = 0
        for number, count, seconds in self.buckets:
            if before + count >= rank:
                # Spread evenly around the bucket's mean: exact for one duration, and for many equal ones.
                mean = seconds / count
                lower, upper = 2 ** ((number - 1) / PER_DOUBLING), 2 ** (number / PER_DOUBLING)
                reach = max(0.0, min(mean - lower, upper - mean))
                return mean + reach * (2 * (rank - before - 0.5) / count - 1)
            before += count
        return None

    def summary(self) -> dict[str, float | None]:
        """`mean`, `p50`, `p95` and `p99` in seconds; None when there are none."""
        mean = self.seconds / self.count if self.buckets else None
        found = {"mean": mean, **{name: self.quantile(part) for name, part in _QUANTILES.items()}}
        return {name: None if value is None else round(value, 4) for name, value in found.items()}

    def up_to(self, doublings: Sequence[int]) -> list[tuple[str, int]]:
        """Prometheus's buckets: for each of 2^doublings seconds, and for infinity, how many do not exceed it."""
        found = [
            (f"{2.0**power:g}", sum(b.filled for b in self.buckets if b.number <= power * PER_DOUBLING))
            for power in doublings
        ]
        return [*found, ("+Inf", self.count)]
