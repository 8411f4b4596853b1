"""One attempt at one task: from a claimed row to what it came to."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from jobs.errors import AttemptError, TaskError
from jobs.handlers.context import Context, Tools
from jobs.handlers.registry import TaskType
from jobs.lifecycle import Status
from jobs.priority import QueueName
from jobs.retry import RetryPolicy, retry_delay

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Claim:
    """A task this worker owns, as its claim returned it. `fence` proves the ownership."""

    id: int
    fence: int
    attempt: int
    task_type: str
    queue: QueueName
    prompt: str | None
    model: str | None
    input: dict[str, Any]
    max_retries: int
    timeout_seconds: int
    retry: RetryPolicy
    request_id: str | None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Claim":
        """From a row of `claim_tasks`."""
        facts = {name: row[name] for name in cls.__slots__}
        return cls(**{**facts, "retry": RetryPolicy.from_json(row["retry"])})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt came to, to be recorded.

    Attributes:
        status: COMPLETED, FAILED, CANCELLED, RETRYING (after `delay` seconds), or PENDING: handed back.
    """

    claim: Claim
    status: Status
    result: dict[str, Any] | None = None
    error: TaskError | None = None
    usage: dict[str, Any] | None = None
    delay: float | None = None


async def perform(claim: Claim, types: Mapping[str, TaskType], tools: Tools) -> Outcome:
    """Run the task's handler within its time limit. Never raises but for being cancelled."""
    context = Context(claim.id, claim.attempt, claim.prompt, claim.model, claim.input, tools)
    limit = asyncio.timeout(claim.timeout_seconds)
    try:
        async with limit:
            kind = types.get(claim.task_type)
            if kind is None:
                raise AttemptError(TaskError("unknown_task_type", f"No handler for {claim.task_type!r} here."))
            result = await kind.handler(context)
        return Outcome(claim, Status.COMPLETED, result=result, usage=context.usage)
    except AttemptError as failure:
        error = failure.error
    except TimeoutError:
        if limit.expired():
            error = TaskError("timeout", f"Not done within {claim.timeout_seconds} s.", retryable=True)
        else:
            log.exception("handler raised", task_id=claim.id, task_type=claim.task_type)
            error = TaskError("handler_error", "The handler raised TimeoutError.")
    except (Exception, SystemExit) as surprise:
        log.exception("handler raised", task_id=claim.id, task_type=claim.task_type)
        error = TaskError("handler_error", f"The handler raised {type(surprise).__name__}.")
    return failed(claim, error, context.usage)


def failed(claim: Claim, error: TaskError, usage: dict[str, Any] | None = None) -> Outcome:
    """The outcome of an attempt that failed: another try later, or the end."""
    delay = retry_delay(claim.retry, error, claim.attempt, claim.max_retries, random.random())  # noqa: S311
    if delay is None:
        return Outcome(claim, Status.FAILED, error=error, usage=usage)
    return Outcome(claim, Status.RETRYING, error=error, usage=usage, delay=delay)
