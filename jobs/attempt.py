"""One attempt at one task: from a claimed row to what it came to."""

import asyncio
import random
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import structlog

from jobs import templates
from jobs.errors import DATABASE_AWAY, AttemptError, Cancelled, TaskError, Unavailable
from jobs.handlers.context import Context, Facts, Line, Tools
from jobs.handlers.registry import TaskType
from jobs.lanes.processes import HandlerRaised, Processes
from jobs.lanes.threads import Threads, in_thread
from jobs.lifecycle import Status
from jobs.logs import bind
from jobs.priority import QueueName
from jobs.profiling import profiled
from jobs.quarantine import NotItsTurn, Quarantine
from jobs.retry import RetryPolicy, Tries, decide

log = structlog.get_logger(__name__)

_PERSUASION_SECONDS: Final = 0.5  # for a coroutine to end once it is cancelled


@dataclass(frozen=True, slots=True)
class Claim:
    """A task this worker owns, as its claim returned it. `fence` proves the ownership.

    Attributes:
        usage: tokens of earlier attempts.
        limited_for: seconds since its provider first asked it to wait; None where it does not wait for that.
        is_suspect: workers were lost while it ran; no other suspect may run beside it.
    """

    id: int
    fence: int
    attempt: int
    task_type: str
    queue: QueueName
    pool: str
    prompt: str | None
    model: str | None
    input: dict[str, Any]
    metadata: dict[str, Any]
    account_id: int | None
    depends_on: list[int]
    stream: bool
    profile: bool
    max_retries: int
    timeout_seconds: int
    retry: RetryPolicy
    usage: dict[str, Any] | None
    request_id: str | None
    limited_for: float | None
    is_suspect: bool

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Claim":
        """From a row of `claim_tasks`."""
        facts = {name: row[name] for name in cls.__slots__}
        return cls(**{**facts, "retry": RetryPolicy.from_json(row["retry"])})


@dataclass(slots=True)
class Outcome:
    """What an attempt came to, to be recorded.

    Attributes:
        status: COMPLETED, FAILED, CANCELLED, RETRYING (after `delay` seconds), or PENDING: handed back.
        error: of an attempt that failed; one that is RETRYING without it only waits for its turn.
        free: the attempt does not count.
        measures: further facts for the event log, such as what it cost.
        has_answers: answers of models are kept for the task.
    """

    claim: Claim
    status: Status
    result: dict[str, Any] | None = None
    error: TaskError | None = None
    usage: dict[str, Any] | None = None
    delay: float | None = None
    free: bool = False
    measures: dict[str, Any] | None = None
    has_answers: bool = False


class Witness(Protocol):
    """Who is told what happens in attempts."""

    def warn(self, claim: Claim) -> None:
        """It has passed its soft limit."""

    def keep_profile(self, claim: Claim, page: str) -> None:
        """It was to be profiled, and has ended."""


@dataclass(frozen=True, slots=True)
class Lanes:
    """What attempts run with."""

    types: Mapping[str, TaskType]
    tools: Tools
    line: Line
    threads: Threads
    processes: Processes
    quarantine: Quarantine
    witness: Witness


@dataclass(slots=True)
class Attempt:
    """A handler at work on a claimed task."""

    claim: Claim
    lanes: Lanes
    context: Context | None = None
    measures: dict[str, Any] = field(default_factory=dict)

    async def run(self) -> Outcome:
        """Run the handler within its time limit. Never raises but for being cancelled."""
        claim = self.claim
        # Also for what libraries log, in the lane's thread as well. An attempt has an asyncio task of its own.
        bind(task_id=claim.id, task_type=claim.task_type, attempt=claim.attempt, request_id=claim.request_id)
        return self.with_costs(await self._run())

    def with_costs(self, outcome: Outcome) -> Outcome:
        """The outcome, with what the attempt has cost so far."""
        context = self.context
        if context is None:
            return outcome
        outcome.usage, outcome.measures, outcome.has_answers = context.usage, self.measures, context.has_answers
        return outcome

    async def _run(self) -> Outcome:
        claim = self.claim
        try:
            async with self.lanes.quarantine.alone(claim.id) if claim.is_suspect else nullcontext():
                result = await self._perform()
            if not isinstance(result, dict):
                raise AttemptError(TaskError("handler_error", "The handler returned no JSON object."))
            return Outcome(claim, Status.COMPLETED, result=result)
        except NotItsTurn as turn:
            return Outcome(claim, Status.RETRYING, delay=turn.pause, free=True)
        except AttemptError as failure:
            error = failure.error
        except _TimedOut:
            error = TaskError("timeout", f"Not done within {claim.timeout_seconds} s.", retryable=True)
        except Cancelled:
            return Outcome(claim, Status.CANCELLED)
        except Unavailable:
            error = DATABASE_AWAY
        except HandlerRaised as surprise:
            error = TaskError("handler_error", f"The handler raised {surprise.kind}.")
        except Exception as surprise:
            log.exception("handler raised")
            error = TaskError("handler_error", f"The handler raised {type(surprise).__name__}.")
        return failed(claim, error, self.lanes.tools.settings.rate_limit_patience)

    async def _perform(self) -> Any:
        claim, lanes = self.claim, self.lanes
        kind = lanes.types.get(claim.task_type)
        if kind is None:
            raise AttemptError(TaskError("unknown_task_type", f"No handler for {claim.task_type!r} here."))
        began = time.monotonic()
        facts = await self._facts(kind)
        tools = lanes.tools
        context = self.context = Context(
            facts, tools.settings, lanes.line, None if kind.mode == "process" else tools, claim.usage, began=began
        )
        warning = asyncio.get_running_loop().call_later(facts.limits[0], self.lanes.witness.warn, claim)
        try:
            work = asyncio.create_task(self._safely_in_lane(kind, context))
            return await _within(facts.limits[1], work)
        finally:
            context.stop()
            warning.cancel()
            if context.profile_page:
                lanes.witness.keep_profile(claim, context.profile_page)

    async def _safely_in_lane(self, kind: TaskType, context: Context) -> Any:
        try:
            return await self._in_lane(kind, context)
        except (Exception, asyncio.CancelledError):
            raise
        except BaseException as surprise:
            # asyncio would end the whole worker over a SystemExit.
            log.exception("handler raised")
            raise HandlerRaised(type(surprise).__name__) from None

    async def _in_lane(self, kind: TaskType, context: Context) -> Any:
        if kind.mode == "thread":
            return await self.lanes.threads.run(kind, context)
        if kind.mode == "process":
            return await self.lanes.processes.run(context, self.measures)
        context.enter()
        with profiled(context):
            return await kind.handler(context)  # type: ignore[misc]  # the registry saw that it is a coroutine

    async def _facts(self, kind: TaskType) -> Facts:
        """The task as its handler sees it; where it depends on others, with their results filled in."""
        claim, prompt, given = self.claim, self.claim.prompt, self.claim.input
        parents: list[dict[str, Any]] = []
        if claim.depends_on:
            rows = await self.lanes.tools.database.all("get_tasks", {"ids": claim.depends_on})
            by_id = {row["id"]: row for row in rows}
            parents = [by_id[parent] for parent in claim.depends_on if parent in by_id]
            if any(map(templates.is_template, templates.texts([prompt, given]))):
                # Compiling templates may take a while.
                prompt = await in_thread(templates.fill, prompt, parents, "prompt")
                given = await in_thread(templates.fill, given, parents, "input")
        hard = float(claim.timeout_seconds)
        return Facts(
            claim.id, claim.fence, claim.task_type, claim.attempt, prompt, claim.model, given, claim.metadata,
            claim.account_id, claim.request_id, claim.stream, claim.profile, parents, (hard * kind.soft_limit, hard),
        )  # fmt: skip


class _TimedOut(Exception):
    """The hard limit has passed."""


async def _within(seconds: float, work: "asyncio.Task[Any]") -> Any:
    """The result of `work`, which is cancelled when it takes longer, and left behind when it resists.

    Raises:
        _TimedOut: after so many seconds.
    """
    try:
        done, _ = await asyncio.wait({work}, timeout=seconds)
        if done:
            return work.result()
    except asyncio.CancelledError:
        if work.cancelled():  # the handler cancelled itself
            raise
        if work.done():
            return work.result()  # both happened at once: what was worked for, and maybe paid, is not thrown away
        await _persuade(work)
        raise
    await _persuade(work)
    raise _TimedOut


async def _persuade(work: "asyncio.Task[Any]") -> None:
    """Cancel a task and give it a moment to end; its result no longer matters."""
    work.cancel()
    done, _ = await asyncio.wait({work}, timeout=_PERSUASION_SECONDS)
    if not done:
        log.error("a handler does not end though it was cancelled", task=work.get_name())
    work.add_done_callback(_hush)


def _hush(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled():
        task.exception()


def failed(claim: Claim, error: TaskError, patience: float = 0.0) -> Outcome:
    """The outcome of an attempt that failed: another try later, or the end."""
    now = time.monotonic()
    since = None if claim.limited_for is None else now - claim.limited_for
    tries = Tries(claim.attempt, claim.max_retries, since, patience)
    decision = decide(claim.retry, error, tries, now, random.random())  # noqa: S311
    status = Status.FAILED if decision.delay is None else Status.RETRYING
    return Outcome(claim, status, error=error, delay=decision.delay, free=decision.free)
