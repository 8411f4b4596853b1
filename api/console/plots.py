"""Plots as SVG: the shapes only; labels and the table of numbers are HTML around them (templates/console/plot.html)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

WIDTH: Final = 600
HEIGHT: Final = 160


@dataclass(frozen=True, slots=True)
class Series:
    """A row of values; None is a gap.

    Attributes:
        tone: the CSS class that colours it.
    """

    name: str
    values: Sequence[float | None]
    tone: str = "one"


def _ceiling(value: float) -> float:
    """The next number that is easy to read: 1, 2, 2.5 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (1, 2, 2.5, 5, 10) if power * step >= value * 0.999999)


@dataclass(frozen=True, slots=True)
class Plot:
    """Lines, or bars that stand on one another, over labels that are evenly spaced.

    Attributes:
        shown: how a value is written.
        top: what the axis ends at; else what the values need.
    """

    title: str
    labels: Sequence[str]
    series: Sequence[Series]
    shown: Callable[[float | None], str]
    bars: bool = False
    top: float | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to see: no parts of a whole, or nothing but zeros of anything else."""
        return not any(self._counts(value) for one in self.series for value in one.values)

    @property
    def highest(self) -> float:
        """The value at the upper edge."""
        if self.top is not None:
            return self.top
        values = [one.values for one in self.series]
        if self.bars:
            sums = [sum(value or 0 for value in column) for column in zip(*values, strict=True)]
            return _ceiling(max(sums, default=0))
        return _ceiling(max((value or 0 for row in values for value in row), default=0))

    @property
    def axis(self) -> list[str]:
        """What stands beside it, from above."""
        return [self.shown(self.highest * part) for part in (1, 0.5, 0)]

    @property
    def below(self) -> list[str]:
        """What stands under it: the first, the middle and the last label."""
        if len(self.labels) < 3:
            return list(self.labels)
        return [self.labels[0], self.labels[len(self.labels) // 2], self.labels[-1]]

    @property
    def rows(self) -> list[tuple[str, list[str]]]:
        """The numbers, by label."""
        columns = zip(*(one.values for one in self.series), strict=True)
        return [
            (label, [self.shown(value) for value in values])
            for label, values in zip(self.labels, columns, strict=True)
            if any(self._counts(value) for value in values)
        ]

    def shapes(self) -> list[tuple[str, str, str]]:
        """What is to be drawn: of which kind (bar, line, dots), in which tone, the path."""
        if self.bars:
            return [("bar", one.tone, path) for one, path in zip(self.series, self._stacked(), strict=True)]
        step = WIDTH / max(1, len(self.labels) - 1)
        drawn = [(one.tone, *_line(one.values, step, self._y)) for one in self.series]
        return [shape for tone, line, dots in drawn for shape in (("line", tone, line), ("dots", tone, dots))]

    def _counts(self, value: float | None) -> bool:
        return bool(value) or (value is not None and self.top is not None)

    def _y(self, value: float) -> float:
        return round(HEIGHT - HEIGHT * min(value / self.highest, 1), 2)

    def _stacked(self) -> list[str]:
        step = WIDTH / max(1, len(self.labels))
        floors = [0.0] * len(self.labels)
        paths = []
        for one in self.series:
            pieces = []
            for place, value in enumerate(one.values):
                if value:
                    left, bottom, top = place * step, self._y(floors[place]), self._y(floors[place] + value)
                    pieces.append(f"M{left + step * 0.1:.2f} {bottom}V{top}h{step * 0.8:.2f}V{bottom}z")
                    floors[place] += value
            paths.append("".join(pieces))
        return paths


def _line(values: Sequence[float | None], step: float, y: Callable[[float], float]) -> tuple[str, str]:
    """A line through values that are neighbours, and a dot for each that has none."""
    line, dots = [], []
    for place, value in enumerate(values):
        if value is None:
            continue
        follows = place > 0 and values[place - 1] is not None
        goes_on = place + 1 < len(values) and values[place + 1] is not None
        point = f"{place * step:.2f} {y(value)}"
        if follows or goes_on:
            line.append(("L" if follows else "M") + point)
        else:
            dots.append(f"M{point}h0")
    return "".join(line), "".join(dots)
