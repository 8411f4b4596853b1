"""What follows a task's transition: everything that other parts do about it is declared here.

A hook is a named statement that runs, with the `ids` of the tasks, in the transaction that makes the transition:
it happens exactly when the transition does. A listener is a function called after the commit, in the process that
made the transition: for what may be lost with that process. Transitions are rows as the statements that make them
return them: `id`, `status`, `from_status`, `task_type`, `queue`, `attempt`, `batch_id`, `has_callback`,
`has_children`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog

from jobs.lifecycle import TERMINAL, Status
from jobs.store.database import AsyncSession, Row, Session

log = structlog.get_logger(__name__)

Listener = Callable[[Sequence[Row]], None]


@dataclass(frozen=True, slots=True)
class Hook:
    """A statement to run with the ids of tasks that moved.

    Attributes:
        on: the states they moved to.
        task_type: only tasks of this type.
        flag: only tasks whose transition has this column true.
    """

    statement: str
    on: frozenset[Status]
    task_type: str | None = None
    flag: str | None = None

    def concerns(self, moved: Row) -> bool:
        """Whether it follows this transition."""
        return (
            moved["status"] in self.on
            and (self.task_type is None or moved["task_type"] == self.task_type)
            and (self.flag is None or moved[self.flag])
        )


_COMPLETED = frozenset({Status.COMPLETED})

HOOKS: tuple[Hook, ...] = (
    Hook("make_contents", _COMPLETED, task_type="content_generation"),
    Hook("keep_daily_lives", _COMPLETED, task_type="daily_life"),
    Hook("queue_callbacks", TERMINAL, flag="has_callback"),
    Hook("keep_memories", _COMPLETED, task_type="memory_consolidation"),
    Hook("count_ended", TERMINAL),
)

BATCH_HOOKS: tuple[str, ...] = ("queue_batch_callbacks",)
"""Statements that run, with their `ids`, in the transaction that closes batches with a callback."""

_listeners: list[tuple[frozenset[Status], Listener]] = []


def listen(*statuses: Status) -> Callable[[Listener], Listener]:
    """Have the decorated function called with the transitions to `statuses` (all final ones when none is given)."""

    def register(listener: Listener) -> Listener:
        _listeners.append((frozenset(statuses) or TERMINAL, listener))
        return listener

    return register


def run(session: Session, moved: Sequence[Row]) -> None:
    """Run the hooks in the transaction that moved the tasks."""
    for statement, ids in _due(moved):
        session.all(statement, {"ids": ids})


async def run_async(session: AsyncSession, moved: Sequence[Row]) -> None:
    """The same on an event loop."""
    for statement, ids in _due(moved):
        await session.all(statement, {"ids": ids})


def tell(moved: Sequence[Row]) -> None:
    """Call the listeners, after the commit. What one of them raises is logged."""
    for statuses, listener in _listeners:
        if concerned := [row for row in moved if row["status"] in statuses]:
            try:
                listener(concerned)
            except Exception:
                log.exception("listener raised", listener=getattr(listener, "__qualname__", str(listener)))


def _due(moved: Sequence[Row]) -> Iterable[tuple[str, list[int]]]:
    for hook in HOOKS:
        if ids := [row["id"] for row in moved if hook.concerns(row)]:
            yield hook.statement, ids
