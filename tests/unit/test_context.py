"""What a handler's context does with models, and what it tells."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from jobs.errors import AttemptError, Cancelled, TaskError
from jobs.handlers.context import Context, current
from jobs.pools import Calls
from jobs.providers.base import ChatAnswer, ChatRequest
from tests.support.contexts import SilentLine, context_for

BUSY = TaskError("rate_limited", "busy", retryable=True, status_code=429, retry_after=3.0)
DOWN = TaskError("provider_unreachable", "down", retryable=True)
WRONG = TaskError("provider_error", "bad request", status_code=400)


class Endpoints:
    """Answers for some models, and fails as told for others."""

    name = "endpoints"

    def __init__(self, **errors: TaskError) -> None:
        self.errors = errors
        self.asked: list[str] = []

    def provider_for(self, _model: str) -> "Endpoints":
        return self

    async def chat(self, request: ChatRequest, on_text: Any = None) -> ChatAnswer:
        self.asked.append(request.model)
        if error := self.errors.get(request.model):
            raise AttemptError(error)
        if on_text:
            on_text("hi")
        return ChatAnswer("hi", request.model, "stop", {"total_tokens": 7})


def context_with(endpoints: Endpoints, fallbacks: tuple[str, ...] = (), **facts: Any) -> tuple[Context, list[Any]]:
    context = context_for(providers=endpoints, **{"model": "a", **facts})
    context.settings = replace(context.settings, fallback_models={"text_generation": fallbacks})
    refused: list[Any] = []
    assert context.tools
    context.tools = replace(context.tools, refused=lambda *said: refused.append(said))
    return context, refused


def ask(context: Context) -> str:
    return asyncio.run(context.ask(ChatRequest("a", [], {})))[0].model


def test_another_model_answers_for_one_that_cannot_now() -> None:
    endpoints = Endpoints(a=BUSY, b=DOWN)
    context, refused = context_with(endpoints, ("b", "c"))
    assert ask(context) == "c"
    assert endpoints.asked == ["a", "b", "c"]
    assert refused == [(1, 1, "a", BUSY)], "only a busy endpoint is left alone by all"
    assert context.spent == {"a": Calls(1), "b": Calls(1), "c": Calls(1, 1, 7)}
    assert context.usage == {"total_tokens": 7, "by_model": {"c": {"total_tokens": 7}}}


@pytest.mark.parametrize(("error", "asked"), [(WRONG, ["a"]), (BUSY, ["a", "b"])])
def test_what_no_model_can_answer_fails(error: TaskError, asked: list[str]) -> None:
    endpoints = Endpoints(a=error, b=error)
    context, _ = context_with(endpoints, ("b",))
    with pytest.raises(AttemptError) as caught:
        ask(context)
    assert caught.value.error is error
    assert endpoints.asked == asked


@pytest.mark.parametrize(("stream", "said"), [(True, ["hi"]), (False, [])])
def test_text_is_shown_when_the_task_asked_for_it(stream: bool, said: list[str]) -> None:
    context, _ = context_with(Endpoints(), stream=stream)
    ask(context)
    assert isinstance(context.line, SilentLine)
    assert context.line.said == said


def test_no_other_model_goes_on_with_a_text_that_broke_off() -> None:
    class Breaks(Endpoints):
        async def chat(self, request: ChatRequest, on_text: Any = None) -> ChatAnswer:
            on_text("Once upon")
            return await super().chat(request, None)

    endpoints = Breaks(a=DOWN)
    context, _ = context_with(endpoints, ("b",), stream=True)
    with pytest.raises(AttemptError):
        ask(context)
    assert endpoints.asked == ["a"]


def test_progress_is_kept_within_its_bounds_and_ends_what_is_cancelled() -> None:
    context, _ = context_with(Endpoints())
    assert isinstance(context.line, SilentLine)
    context.progress(1, "bad\x00text\ud83d")
    assert context.line.said.pop() == (1, "bad\ufffdtext?")
    for percent in (-5, 33.4, 400):
        context.progress(percent, "on the way")
    assert context.line.said == [(0, "on the way"), (33, "on the way"), (100, "on the way")]
    context.stop()
    assert context.is_cancelled
    with pytest.raises(Cancelled):
        context.progress(50)


def test_time_left_and_the_soft_limit() -> None:
    context, _ = context_with(Endpoints())
    assert 9 < context.remaining <= 10
    assert not context.is_late
    context.began -= 9
    assert context.is_late
    assert context.remaining < 1.1


def test_there_is_no_context_where_no_handler_runs() -> None:
    with pytest.raises(LookupError):
        current()
