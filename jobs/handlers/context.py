"""What a handler is given."""

from dataclasses import dataclass, field
from typing import Any

from jobs.errors import AttemptError, TaskError
from jobs.providers.catalog import Catalog


@dataclass(slots=True)
class Context:
    """One attempt at one task.

    Attributes:
        attempt: its number, from 1.
        input: as the task type's schema loaded it at submission.
        providers: model endpoints.
        usage: set by the handler: tokens it used, as the provider counts them.
    """

    task_id: int
    attempt: int
    prompt: str | None
    model: str | None
    input: dict[str, Any]
    providers: Catalog
    usage: dict[str, Any] | None = field(default=None)

    def fail(self, message: str, *, retryable: bool = False) -> AttemptError:
        """The error to raise when the handler cannot do its work."""
        return AttemptError(TaskError("handler_error", message, retryable=retryable))
