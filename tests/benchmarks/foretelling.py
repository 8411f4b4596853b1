"""What the servers bear when all workers work, foretold from what few cost them, and the page that says so.

The most that it will cost follows from the fewest, which have the machine to themselves and so gather least; the least
from the most, which gather more, as everything waits a little.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.benchmarks.machine import machine

CALLS = 10_000
ASSUMPTIONS = f"""
- {CALLS:,} slots, 100 in each of 100 worker processes where nothing else is said, all busy: there is always more to do.
- A call takes 1.0 s or 10 s on the average, evenly from half to one and a half times that; its answer has 1.5 KB.
- Tasks of one model, without limits, in one queue, without batches, dependencies, callbacks and streams.
- What a worker costs the servers depends on how many tasks a second it does, and grows no faster than their number.
- Redis works on one core. PostgreSQL's cores are those of this machine; a larger one has more of them.
- Statements include BEGIN and COMMIT. Redis commands include those that scripts run; a script is one round trip.
- Submitting, the scheduler and the web processes are not counted: a task costs PostgreSQL one more transaction (less
  when it comes in a batch), and Redis one more script.
"""

BREAKS = """
What breaks first, and the setting that moves it:

1. **Connections of PostgreSQL.** A worker keeps some open, and may have six; by itself, PostgreSQL takes 100 in all.
   Raise `max_connections`, or put a pooler between in transaction mode: it needs about twice as many to the server as
   are at work. No pooler was there when this was measured.
2. **Redis's one core**, and **PostgreSQL's cores** soon after, where calls are short. Have fewer workers with more
   slots (`WORKER_CONCURRENCY`): what a worker does at about the same time goes in one script, one statement and one
   commit, so that a task costs both the less, the more tasks a worker has.
3. Connections of Redis are far from its 10,000 (`maxclients`), and a ring wakes one worker, however many are idle.
"""


@dataclass(frozen=True)
class Load:
    """What the workers do: calls of so many seconds, or (0) nothing, but for so many tasks a second, one at a time."""

    name: str
    seconds: float
    workers: tuple[int, ...]
    trickle: float = 0.0
    slots: int = 100

    @property
    def all_workers(self) -> int:
        """With which there are all slots."""
        return CALLS // self.slots


LOADS = (
    Load("nothing to do", 0.0, (10, 20, 40)),
    Load("20 tasks a second, all slots free", 0.0, (10, 40), trickle=20.0),
    Load("calls of 10 s", 10.0, (10, 20, 40)),
    Load("calls of 1.0 s", 1.0, (2, 4, 8)),
    Load("calls of 1.0 s, 400 slots a worker", 1.0, (2,), slots=400),
)


@dataclass
class Costs:
    """What so many workers with one load cost, a second."""

    load: str
    workers: int
    figures: dict[str, float]
    commands: dict[str, float]
    statements: dict[str, float]
    connections: dict[str, int]


def foretold(costs: Costs, load: Load) -> dict[str, float]:
    """The figures of all workers: as many times more."""
    return {name: value * load.all_workers / costs.workers for name, value in costs.figures.items()}


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Markdown."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *(map(_shown, row) for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _shown(cell: object) -> str:
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.3g}"


def report(all_costs: list[Costs]) -> str:
    """The page."""
    page = ["# Scaling out", "", *(f"- {name}: {value}" for name, value in machine().items()), "", __doc__ or ""]
    page += ["## Assumptions", ASSUMPTIONS, "## What it takes", *_needs(all_costs), BREAKS]
    for load in LOADS:
        if found := [costs for costs in all_costs if costs.load == load.name]:
            page += [f"## {load.name}", "", *_figures(load, found), "", *_kinds(load, found[0])]
    return "\n".join(page)


def _figures(load: Load, found: list[Costs]) -> list[str]:
    head = ["a second", *(f"{costs.workers} workers" for costs in found)]
    rows: list[list[object]] = [[name, *(costs.figures[name] for costs in found)] for name in found[0].figures]
    if not load.trickle:
        head += [f"{load.all_workers}, from {costs.workers}" for costs in (found[0], found[-1])]
        for row in rows:
            row += [foretold(costs, load)[str(row[0])] for costs in (found[0], found[-1])]
    return table(head, rows)


def _kinds(load: Load, costs: Costs) -> list[str]:
    """What the fewest workers sent most of."""
    tasks = costs.figures["tasks"]
    each, per = (tasks, "a task") if load.seconds or load.trickle else (costs.workers / 60, "a worker and minute")
    lines = []
    for what, kinds in (("Redis commands", costs.commands), ("PostgreSQL statements", costs.statements)):
        listed = ", ".join(f"{name} {rate / each:.2g}" for name, rate in list(kinds.items())[:16])
        lines += [f"{what}, {per} ({costs.workers} workers): {listed}.", ""]
    return lines


def _needs(all_costs: list[Costs]) -> list[str]:
    rows: list[list[object]] = []
    for load in LOADS:
        found = [costs for costs in all_costs if costs.load == load.name]
        if not found or not load.seconds:
            continue
        most, least = (foretold(costs, load) for costs in (found[0], found[-1]))
        named = ("tasks", "Redis: cores", "PostgreSQL: cores", "PostgreSQL: connections at work")
        cells = [f"{_shown(least[name])} to {_shown(most[name])}" for name in named]
        opened = (
            found[-1].connections[name] * load.all_workers / found[-1].workers for name in ("PostgreSQL", "Redis")
        )
        rows.append([f"{load.name}: {load.all_workers} workers", *cells, *opened])
    head = ["", "tasks a second", "Redis: cores", "PostgreSQL: cores", "PostgreSQL: connections at work",
            "PostgreSQL: connections open", "Redis: connections open"]  # fmt: skip
    return table(head, rows)
