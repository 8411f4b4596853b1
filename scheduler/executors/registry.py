"""The decorator that makes a function an executor, and what it is given."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from marshmallow import Schema

from jobs.handlers.registry import TaskType
from jobs.store.database import Row, Session
from jobs.submit import Submitter


@dataclass(slots=True)
class Firing:
    """One firing, inside the transaction that does all of it.

    Attributes:
        execution: its row; among others `scheduled_for` and the schedule's `timezone`.
        params: as the executor's schema loaded them.
        submitted: the tasks it made, to be announced after the commit.
    """

    session: Session
    submitter: Submitter
    execution: Row
    params: dict[str, Any] = field(default_factory=dict)
    submitted: list[Row] = field(default_factory=list)

    def submit(self, tasks: Sequence[Mapping[str, Any]]) -> list[Row]:
        """Submit tasks, all or none."""
        origin = {"schedule_id": self.execution["schedule_id"], "execution_id": self.execution["id"]}
        with self.session.savepoint():
            rows = self.submitter.insert(self.session, [{**task, **origin} for task in tasks])
        self.submitted += rows
        return rows


@dataclass(frozen=True, slots=True)
class Executor:
    """A registered executor; `run` returns the execution's result, with a `success` of True or False.

    `is_upkeep`: it fires also when so many tasks wait that others are refused.
    """

    name: str
    description: str
    params_schema: Callable[[Mapping[str, TaskType]], Schema]
    run: Callable[[Firing], dict[str, Any]]
    is_upkeep: bool = False


EXECUTORS: dict[str, Executor] = {}


def executor(
    name: str, params_schema: Callable[[Mapping[str, TaskType]], Schema], *, is_upkeep: bool = False
) -> Callable[[Callable[[Firing], dict[str, Any]]], Callable[[Firing], dict[str, Any]]]:
    """Register the decorated function as executor `name`.

    Args:
        params_schema: makes the schema of its parameters, given all task types.

    Raises:
        ValueError: the name is taken.
    """

    def register(run: Callable[[Firing], dict[str, Any]]) -> Callable[[Firing], dict[str, Any]]:
        if name in EXECUTORS:
            raise ValueError(f"executor {name!r} is registered twice")
        EXECUTORS[name] = Executor(name, (run.__doc__ or "").strip(), params_schema, run, is_upkeep)
        return run

    return register


def result_of(message: str, tasks: Sequence[Mapping[str, Any]], **data: Any) -> dict[str, Any]:
    """A result of the documented shape for what was submitted without a failure."""
    return {
        "success": True,
        "message": message,
        "data": {"total_submitted": len(tasks), "total_failed": 0, "tasks": list(tasks), "errors": [], **data},
    }
