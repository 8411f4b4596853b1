"""What an attempt comes to, whatever its handler does."""

import asyncio
import threading
from dataclasses import replace
from typing import Any, cast

import pytest
import structlog

from jobs.attempt import Attempt, Claim, Lanes, Outcome
from jobs.errors import AttemptError, Cancelled, TaskError, Unavailable
from jobs.handlers.context import Context, current
from jobs.handlers.registry import TaskType
from jobs.lanes.threads import Threads
from jobs.lifecycle import Status
from jobs.pools import Mode
from jobs.retry import RetryPolicy
from tests.support.contexts import SilentLine, context_for

BUSY = TaskError("rate_limited", "busy", retryable=True, status_code=429, retry_after=7.0)


class Unmoved:
    """Hears of everything, and does nothing about it."""

    def warn(self, claim: Claim) -> None:
        """So be it."""

    def keep_profile(self, claim: Claim, page: str) -> None:
        """So be it."""


def claim(**facts: Any) -> Claim:
    row = {
        "id": 1, "fence": 1, "attempt": 1, "task_type": "t", "queue": "low", "pool": "coroutine",
        "prompt": "p", "model": "m", "input": {}, "metadata": {}, "account_id": None,
        "depends_on": [], "stream": False, "profile": False, "max_retries": 1, "timeout_seconds": 10,
        "retry": RetryPolicy(jitter=False).as_json(), "usage": None, "request_id": None,
        "limited_for": None, "is_suspect": False,
    }  # fmt: skip
    return Claim.from_row({**row, **facts})


class Parents:
    """A database in which every parent has completed."""

    async def all(self, _name: str, params: Any) -> list[dict[str, Any]]:
        return [{"id": task_id, "result": {"text": "of a parent"}} for task_id in params["ids"]]


def lanes_for(handler: Any, mode: Mode = "coroutine") -> Lanes:
    nothing = cast(Any, None)
    tools = context_for().tools
    assert tools
    types = {"t": TaskType("t", handler, nothing, mode)}
    with_parents = replace(tools, database=cast(Any, Parents()))
    return Lanes(types, with_parents, SilentLine(), Threads(), nothing, nothing, Unmoved())


def run(handler: Any, mode: Mode = "coroutine", **facts: Any) -> Outcome:
    return asyncio.run(Attempt(claim(**facts), lanes_for(handler, mode)).run())


def raising(error: BaseException) -> Any:
    async def handler(_context: Context) -> dict[str, Any]:
        raise error

    return handler


def test_a_result_completes_it() -> None:
    async def handler(context: Context) -> dict[str, Any]:
        context.count({"total_tokens": 3})
        assert current() is context
        return {"ok": True}

    outcome = run(handler, usage={"total_tokens": 40})
    assert (outcome.status, outcome.result) == (Status.COMPLETED, {"ok": True})
    assert outcome.usage == {"total_tokens": 43}, "tokens of earlier attempts were spent, too"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (AttemptError(TaskError("provider_error", "no")), Status.FAILED, "provider_error"),
        (AttemptError(TaskError("timeout", "slow", retryable=True)), Status.RETRYING, "timeout"),
        (Unavailable("gone"), Status.RETRYING, "database_unavailable"),
        (ValueError("secret"), Status.FAILED, "handler_error"),
        (TimeoutError("of its own"), Status.FAILED, "handler_error"),
        (SystemExit(1), Status.FAILED, "handler_error"),
        (GeneratorExit(), Status.FAILED, "handler_error"),
    ],
)
def test_what_a_handler_raises_becomes_an_error(error: BaseException, status: Status, code: str) -> None:
    outcome = run(raising(error))
    assert outcome.error
    assert (outcome.status, outcome.error.code) == (status, code)
    assert "secret" not in outcome.error.message


@pytest.mark.parametrize("mode", ["coroutine", "thread"])
def test_lines_logged_anywhere_below_a_handler_name_task_and_request(mode: Mode) -> None:
    async def coroutine(_context: Context) -> dict[str, Any]:
        return structlog.contextvars.get_contextvars()

    def thread(_context: Context) -> dict[str, Any]:
        return structlog.contextvars.get_contextvars()

    handler = coroutine if mode == "coroutine" else thread
    outcome = run(handler, mode, id=7, attempt=2, request_id="r-1")
    assert outcome.result == {"task_id": 7, "task_type": "t", "attempt": 2, "request_id": "r-1"}
    assert structlog.contextvars.get_contextvars() == {}


def test_a_handler_that_was_asked_to_end_and_does_is_cancelled() -> None:
    assert run(raising(Cancelled())).status is Status.CANCELLED


def test_waiting_out_a_busy_provider_is_free() -> None:
    outcome = run(raising(AttemptError(BUSY)))
    assert (outcome.status, outcome.delay, outcome.free) == (Status.RETRYING, 7.0, True)
    impatient = run(raising(AttemptError(BUSY)), limited_for=3600.0)
    assert (impatient.status, impatient.free) == (Status.RETRYING, False)


def test_a_result_must_be_an_object() -> None:
    async def handler(_context: Context) -> Any:
        return ["no", "object"]

    outcome = run(handler)
    assert outcome.error
    assert outcome.error.code == "handler_error"


def test_an_unknown_type_fails() -> None:
    outcome = run(raising(KeyError()), task_type="unheard")
    assert outcome.error
    assert outcome.error.code == "unknown_task_type"


def test_a_thread_has_the_context_too() -> None:
    outcome = run(lambda context: {"same": current() is context}, "thread", pool="thread")
    assert outcome.result == {"same": True}


@pytest.mark.parametrize("facts", [{"pool": "thread"}, {"depends_on": [7], "prompt": "{{ parents[0].result.text }}"}])
def test_where_no_thread_can_be_started_it_is_tried_again(
    facts: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def exhausted(thread: threading.Thread) -> None:
        if "shutdown" not in thread.name:  # by which asyncio.run ends
            raise RuntimeError("can't start new thread")
        start(thread)

    def act(attempt: int) -> Outcome:
        return run(lambda context: {"prompt": context.prompt}, "thread", attempt=attempt, **facts)

    assert act(1).status is Status.COMPLETED
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", exhausted)
        first, last = act(1), act(2)
    assert first.error
    assert (first.status, first.error.code, last.status) == (Status.RETRYING, "thread_lost", Status.FAILED)


def test_a_handler_that_is_done_when_it_is_cancelled_is_done() -> None:
    async def act() -> Outcome:
        answered, begun = asyncio.Event(), asyncio.Event()

        async def handler(_context: Context) -> dict[str, Any]:
            begun.set()
            await answered.wait()
            return {"text": "paid for"}

        attempt = asyncio.create_task(Attempt(claim(), lanes_for(handler)).run())
        await begun.wait()
        answered.set()
        await asyncio.sleep(0)
        attempt.cancel()
        return await attempt

    outcome = asyncio.run(act())
    assert (outcome.status, outcome.result) == (Status.COMPLETED, {"text": "paid for"})
