"""Errors as an interface.

PressroomError
├── SettingsError         the environment is wrong; says every wrong variable
├── AttemptError          an attempt failed: carries the machine-readable error kept with the task
├── Cancelled             a handler that was asked to end does so
├── Unavailable           PostgreSQL cannot be reached now
├── NotFound              no such task or batch
├── StateConflict         the task's state does not allow the move
├── IdempotencyMismatch   an Idempotency-Key came again with another body
├── TooManyPending        so many tasks wait that no more are taken now
└── UnknownParents        a task is to depend on tasks that do not exist
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from jobs.fields import storable
from jobs.secrets import clean

T = TypeVar("T")


class PressroomError(Exception):
    """The root of all errors raised on purpose here."""


class SettingsError(PressroomError):
    """Wrong settings.

    Attributes:
        problems: variable name -> what is wrong with it, for every wrong one.
    """

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        super().__init__("\n".join(f"  {name}: {why}" for name, why in self.problems.items()))


class Unavailable(PressroomError):
    """The database cannot be reached now; trying again later makes sense."""


class NotFound(PressroomError):
    """There is no such thing."""


def found(row: T | None, what: str, number: int) -> T:
    """The row; `NotFound`, saying what was looked for, when there is none."""
    if row is None:
        raise NotFound(f"There is no {what} {number}.")
    return row


class StateConflict(PressroomError):
    """The task is in a state that does not allow what was asked."""


class IdempotencyMismatch(PressroomError):
    """The same Idempotency-Key was used with another request."""


class TooManyPending(PressroomError):
    """More tasks wait than MAX_PENDING allows; trying again later makes sense."""


class UnknownParents(PressroomError):
    """`depends_on` names tasks that do not exist.

    Attributes:
        ids: these.
    """

    def __init__(self, ids: Iterable[int]) -> None:
        self.ids = sorted(ids)
        super().__init__(f"There is no task {', '.join(map(str, self.ids[:10]))}.")


@dataclass(frozen=True, slots=True)
class TaskError:
    """Why an attempt failed, as kept with the task and shown to callers. Never a traceback.

    Attributes:
        code: timeout, rate_limited, provider_error, provider_unreachable,
            invalid_response, handler_error, dependency_failed, worker_lost, unknown_model...
        message: one sentence for a person; secrets are taken out of it.
        retryable: whether trying again later can help.
        status_code: the provider's HTTP status, when there was one.
        retry_after: seconds the provider asked us to wait, when it did.
    """

    code: str
    message: str
    retryable: bool = False
    status_code: int | None = None
    retry_after: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", clean(self.message))

    @property
    def means_busy(self) -> bool:
        """Whether the provider asked to be left alone for now: 429, or 503 with a time."""
        return self.code == "rate_limited" or (self.status_code == 503 and self.retry_after is not None)

    def as_json(self) -> dict[str, Any]:
        """The shape stored and returned; absent facts are left out."""
        known: dict[str, Any] = {"code": self.code, "message": storable(self.message), "retryable": self.retryable}
        if self.status_code is not None:
            known["status_code"] = self.status_code
        return known


class AttemptError(PressroomError):
    """Raised by handlers and providers to end an attempt with a `TaskError`."""

    def __init__(self, error: TaskError) -> None:
        self.error = error
        super().__init__(f"{error.code}: {error.message}")


class Cancelled(PressroomError):
    """Raised where a handler checks, after it was asked to end."""


PGVECTOR_MISSING = TaskError(
    "pgvector_missing",
    "Vectors need PostgreSQL's extension pgvector, 0.8 or newer. Install it on the database server and, as an "
    "administrator, run CREATE EXTENSION vector (or ALTER EXTENSION vector UPDATE) in this database; then retry.",
)
WORKER_LOST = TaskError(
    "worker_lost", "Its worker was lost while it ran, as often as this task may be tried.", retryable=False
)

DATABASE_AWAY = TaskError("database_unavailable", "The database could not be reached.", retryable=True)
