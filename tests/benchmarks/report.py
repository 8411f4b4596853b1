"""The table: printed, and written as JSON and Markdown, with plots where they can be drawn."""

import json
import statistics
import subprocess
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.benchmarks.bench import PEERS_PYTHON, Bench, Figures, say
from tests.support.instance import ROOT

_HEAD = ("figure", "who", "median", "min", "max")


def write(bench: Bench, machine: dict[str, str], directory: Path) -> None:
    """Write everything, and print the table."""
    directory.mkdir(parents=True, exist_ok=True)
    document = {
        "machine": machine,
        "rounds": bench.rounds,
        "scale": bench.scale,
        "seconds": bench.seconds,
        "figures": [vars(figures) for figures in bench.figures],
        "curves": [vars(curve) for curve in bench.curves],
    }
    (directory / "results.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    table = list(_lines(bench.figures))
    notes = (Path(__file__).parent / "method.md").read_text(encoding="utf-8")
    facts = [f"- {name}: {value}" for name, value in machine.items()]
    took = ", ".join(f"{part} {seconds:.0f} s" for part, seconds in bench.seconds.items())
    facts.append(f"- rounds: {bench.rounds}; time taken: {took}")
    if bench.scale != 1:
        facts.append(f"- numbers of tasks times {bench.scale:g}: not to be compared with other runs")
    plots = _plots(directory)
    shown = [f"![{plot.stem}]({plot.name})" for plot in plots]
    page = ["# Benchmark", "", *facts, "", *table, "", *shown, "", notes]
    (directory / "results.md").write_text("\n".join(page), encoding="utf-8")
    say("\n".join(table))
    say(f"written: {directory}/results.json, results.md" + "".join(f", {plot.name}" for plot in plots))


def _lines(figures: list[Figures]) -> Iterator[str]:
    for (part, load), group in groupby(figures, key=lambda one: (one.part, one.load)):
        found = list(group)
        rows = [row for one in found for row in _rows(one)]
        names = list(dict.fromkeys(name for name, *_ in rows))
        rows.sort(key=lambda row: names.index(row[0]))  # one figure of all contestants together
        yield f"\n**{part}: {load}**\n"
        yield from _aligned([_HEAD, *rows])
        yield from (f"\n{one.who} was not measured: {one.missing}" for one in found if one.missing)


def _rows(figures: Figures) -> Iterator[tuple[str, ...]]:
    for name, values in figures.values.items():
        yield (name, figures.who, _number(statistics.median(values)), _number(min(values)), _number(max(values)))


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for number, row in enumerate(rows):
        cells = [
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield f"| {' | '.join(cells)} |"
        if number == 0:
            yield (
                "|"
                + "|".join(
                    "-" * (width + 2) if column < 2 else "-" * (width + 1) + ":" for column, width in enumerate(widths)
                )
                + "|"
            )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _plots(directory: Path) -> list[Path]:
    """Drawn by the Python that has matplotlib."""
    for old in directory.glob("*.svg"):
        old.unlink()
    if not PEERS_PYTHON.exists():
        say("no plots: matplotlib comes with the peers")
        return []
    done: subprocess.CompletedProcess[Any] = subprocess.run(
        [str(PEERS_PYTHON), "-m", "tests.benchmarks.plots", str(directory)], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        say(f"no plots: {(done.stderr.strip().splitlines() or ['matplotlib failed'])[-1]}")
        return []
    return sorted(directory.glob("*.svg"))
