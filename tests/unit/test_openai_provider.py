"""Every way an endpoint can answer becomes an answer or one of the documented errors."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import httpx
import pytest

from jobs.errors import AttemptError, TaskError
from jobs.http import parse_retry_after
from jobs.providers.base import ChatAnswer, ChatRequest
from jobs.providers.openai import OpenAIProvider

KEY = "sk-secret-0123456789"
REQUEST = ChatRequest("gpt-test", [{"role": "user", "content": "你好"}], {"temperature": 0.5})
GOOD = {
    "model": "gpt-test-1",
    "choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"total_tokens": 3},
}
Handle = Callable[[httpx.Request], httpx.Response]


def ask(handle: Handle, on_text: Callable[[str], None] | None = None) -> ChatAnswer:
    async def chat() -> ChatAnswer:
        provider = OpenAIProvider("test", "http://model/v1/", KEY, transport=httpx.MockTransport(handle))
        return await provider.chat(REQUEST, on_text)

    return asyncio.run(chat())


def error_of(handle: Handle, on_text: Callable[[str], None] | None = None) -> TaskError:
    with pytest.raises(AttemptError) as caught:
        ask(handle, on_text)
    return caught.value.error


def test_the_request_is_what_the_openai_api_expects() -> None:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=GOOD)

    answer = ask(handle)
    (request,) = seen
    assert str(request.url) == "http://model/v1/chat/completions"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert set(request.extensions["timeout"]) == {"connect", "read", "write", "pool"}
    assert httpx.Response(200, content=request.content).json() == {
        "model": "gpt-test",
        "messages": [{"role": "user", "content": "你好"}],
        "temperature": 0.5,
    }
    assert answer == ChatAnswer("hi", "gpt-test-1", "stop", {"total_tokens": 3})


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (400, "provider_error", False),
        (401, "provider_error", False),
        (403, "provider_error", False),
        (404, "provider_error", False),
        (408, "provider_error", True),
        (409, "provider_error", True),
        (422, "provider_error", False),
        (425, "provider_error", True),
        (429, "rate_limited", True),
        (302, "provider_error", False),
        (500, "provider_error", True),
        (503, "provider_error", True),
        (529, "provider_error", True),
    ],
)
def test_statuses_map_to_codes(status: int, code: str, retryable: bool) -> None:
    error = error_of(lambda _: httpx.Response(status, json={"error": {"message": "because"}}))
    assert (error.code, error.retryable, error.status_code) == (code, retryable, status)
    assert "because" in error.message


def test_retry_after_is_kept() -> None:
    assert error_of(lambda _: httpx.Response(429, headers={"Retry-After": "7"})).retry_after == 7


class BrokenOff(httpx.AsyncByteStream):
    """A body of which only the beginning comes."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b'{"error": {"mess'
        raise self._error


@pytest.mark.parametrize("error", [httpx.ReadError(""), httpx.ReadTimeout(""), aiohttp.ClientPayloadError("")])
def test_a_refusal_counts_also_when_its_body_breaks_off(error: Exception) -> None:
    busy = error_of(lambda _: httpx.Response(429, headers={"Retry-After": "7"}, stream=BrokenOff(error)))
    assert (busy.code, busy.status_code, busy.retry_after) == ("rate_limited", 429, 7)
    wrong = error_of(lambda _: httpx.Response(400, stream=BrokenOff(error)))
    assert (wrong.code, wrong.status_code, wrong.retryable) == ("provider_error", 400, False)


def test_the_key_is_never_in_a_message() -> None:
    error = error_of(lambda _: httpx.Response(401, json={"error": {"message": f"bad key {KEY}"}}))
    assert KEY not in error.message


def test_nor_is_a_part_of_it_when_a_long_message_is_cut() -> None:
    said = "x" * 290 + KEY
    assert KEY[:8] not in error_of(lambda _: httpx.Response(401, json={"error": {"message": said}})).message


def failing(error: Exception, cause: Exception | None = None) -> Handle:
    def handle(_: httpx.Request) -> httpx.Response:
        raise error from cause

    return handle


@pytest.mark.parametrize(
    ("handle", "code"),
    [
        (failing(httpx.ReadTimeout("")), "timeout"),
        (failing(httpx.ConnectError("")), "provider_unreachable"),
        (failing(httpx.ConnectTimeout(""), aiohttp.ServerDisconnectedError()), "provider_unreachable"),
        (failing(httpx.TimeoutException("")), "provider_unreachable"),
        (failing(httpx.ReadError("")), "provider_unreachable"),
        (failing(aiohttp.ClientPayloadError("")), "provider_unreachable"),
    ],
)
def test_transport_failures_can_be_retried(handle: Handle, code: str) -> None:
    error = error_of(handle)
    assert (error.code, error.retryable) == (code, True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b'"text"',
        b"{}",
        b'{"choices": []}',
        b'{"choices": [null]}',
        b'{"choices": {"0": 1}}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": {"content": null}}]}',
        b'{"choices": [{"message": {"content": 5}}]}',
        b'{"choices": [{"message": {"content": "\\ud800"}}]}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_whatever_is_not_a_completion_is_an_invalid_response(body: bytes) -> None:
    error = error_of(lambda _: httpx.Response(200, content=body))
    assert (error.code, error.retryable) == ("invalid_response", True)


@pytest.mark.parametrize("facts", [{"usage": "many"}, {"model": 5}, {"usage": None}])
def test_odd_extras_do_not_spoil_an_answer(facts: dict[str, Any]) -> None:
    assert ask(lambda _: httpx.Response(200, json={**GOOD, **facts})).text == "hi"


def test_nul_characters_are_replaced_for_the_database() -> None:
    choice = {"message": {"content": "a\x00b"}, "finish_reason": "st\x00p"}
    answer = ask(lambda _: httpx.Response(200, json={"choices": [choice], "model": "m\x00"}))
    assert (answer.text, answer.finish_reason, answer.model) == ("a\ufffdb", "st\ufffdp", "m\ufffd")


def test_of_the_usage_only_numbers_are_kept() -> None:
    usage = {"total_tokens": 3, "tier\x00": "a\x00", "cost": 0.5, "details": {"cached_tokens": 2, "why\x00": "\x00"}}
    answer = ask(lambda _: httpx.Response(200, json={**GOOD, "usage": usage}))
    assert answer.usage == {"total_tokens": 3, "cost": 0.5, "details": {"cached_tokens": 2}}


def test_nul_characters_in_a_refusal_do_not_keep_it_from_being_stored() -> None:
    error = error_of(lambda _: httpx.Response(500, json={"error": {"message": "no\x00"}}))
    assert "no\ufffd" in error.as_json()["message"]


def stream(*lines: str) -> Handle:
    content = "".join(f"{line}\n\n" for line in lines).encode()
    return lambda _: httpx.Response(200, content=content, headers={"Content-Type": "text/event-stream"})


def test_a_stream_is_put_together_and_passed_on() -> None:
    pieces: list[str] = []
    answer = ask(
        stream(
            ": a comment",
            'data: {"model": "m1", "choices": [{"delta": {"role": "assistant"}}]}',
            'data: {"choices": [{"delta": {"content": "你"}}]}',
            'data:{"choices": [{"delta": {"content": "好"}, "finish_reason": null}]}',
            'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}',
            'data: {"choices": [], "usage": {"total_tokens": 9}}',
            "data: [DONE]",
        ),
        pieces.append,
    )
    assert pieces == ["你", "好"]
    assert answer == ChatAnswer("你好", "m1", "stop", {"total_tokens": 9})


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ['data: {"choices": [{"delta": {"content": "half"}}]}'],
        ["data: not json"],
        ["data: []"],
        ['data: {"choices": [5]}'],
        ['data: {"choices": [{"delta": {"content": 5}}]}'],
    ],
)
def test_a_stream_that_ends_early_or_makes_no_sense_is_an_invalid_response(lines: list[str]) -> None:
    assert error_of(stream(*lines), lambda _: None).code == "invalid_response"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("2.5", 2.5),
        ("-3", 0.0),
        ("Thu, 01 Jan 1970 00:20:00 GMT", 200.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("inf", None),
        ("1e12", 86_400.0),
    ],
)
def test_retry_after_takes_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, now=1000.0) == seconds
