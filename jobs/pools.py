"""Lanes, and the pools of tasks that wait for the same thing: a lane's slots, and a model's limits. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

Mode = Literal["coroutine", "thread", "process"]
"""Where a handler runs: on the worker's event loop, in a thread, or in a process of its own. Each is a lane."""

MODES: tuple[Mode, ...] = get_args(Mode)


def pool_of(mode: Mode, model: str | None) -> str:
    """The pool of tasks that run in a lane and, where it is given, call a model."""
    return mode if model is None else f"{mode}:{model}"


def lane_of(pool: str) -> Mode:
    """The lane in which a pool's tasks run."""
    return cast(Mode, pool.partition(":")[0])


@dataclass(slots=True)
class Calls:
    """Calls of a model, how many of them were answered, and the tokens of these."""

    calls: int = 0
    answers: int = 0
    tokens: int = 0


@dataclass(slots=True)
class Ended(Calls):
    """A pool's tasks that ended, and the calls of its model, whosever they were."""

    tasks: int = 0


class Pools:
    """Counts one worker's model calls, for the limits that all workers share."""

    def __init__(self, rules: Mapping[str, Mapping[str, int]]) -> None:
        """`rules`: pool -> `max_in_flight`, `requests_per_minute`, `tokens_per_minute`, where set."""
        self._rules = rules
        self._runs: dict[tuple[int, int], str] = {}
        self._refused: set[tuple[int, int]] = set()  # of these runs: in flight no more
        self._flight: Counter[str] = Counter()
        self._ended: dict[str, Ended] = {}
        self._known: set[str] = set()  # pools of which the others think that some of ours are in flight

    @property
    def has_news(self) -> bool:
        """Whether tasks ended that the others do not know of yet."""
        return bool(self._ended)

    def coming(self, pool: str, count: int) -> None:
        """So many tasks of the pool more (or fewer) are on their way here: they count as in flight."""
        if ":" in pool:
            self._flight[pool] += count

    def started(self, run: tuple[int, int], pool: str) -> None:
        """An attempt began."""
        if ":" in pool:
            self._runs[run] = pool
            self._flight[pool] += 1

    def ended(self, run: tuple[int, int], spent: Mapping[str, Calls]) -> None:
        """An attempt is over that called these models."""
        if pool := self._runs.pop(run, None):
            self._flight[pool] -= run not in self._refused
            self._refused.discard(run)
            self._ended.setdefault(pool, Ended()).tasks += 1
        for model, calls in spent.items():
            ended = self._ended.setdefault(pool_of("coroutine", model), Ended())
            ended.calls += calls.calls
            ended.answers += calls.answers
            ended.tokens += calls.tokens

    def refused(self, run: tuple[int, int], pool: str) -> int:
        """An attempt's call to the pool's model was refused; how many others of the pool are in flight."""
        if self._runs.get(run) == pool and run not in self._refused:
            self._refused.add(run)
            self._flight[pool] -= 1
        return self._flight[pool]

    def known(self, pools: Iterable[str]) -> None:
        """What the others think after the last report."""
        self._known = set(pools)

    def report(self) -> dict[str, Any]:
        """`flight`, `ended` and `rules` for take.lua; what ended is forgotten with it."""
        news = {
            # Also what is nothing: taken, but not to be claimed.
            "flight": dict.fromkeys(self._known, 0) | {pool: n for pool, n in self._flight.items() if n},
            "ended": {pool: asdict(ended) for pool, ended in self._ended.items()},
            "rules": self._rules,
        }
        self._ended = {}
        self._flight = +self._flight
        return news
