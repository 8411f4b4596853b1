"""Whatever an endpoint sends becomes an answer that can be stored, or one of the documented errors; in little room."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import AttemptError, TaskError
from jobs.http import parse_retry_after
from jobs.providers.base import ChatAnswer, ChatRequest, EmbeddingAnswer, EmbeddingRequest
from jobs.providers.openai import OpenAIProvider
from jobs.providers.reading import MOST_BYTES
from jobs.webhooks.sender import Sender
from tests.support.raw_server import ODD_ANSWERS, answering

CHAT = ChatRequest("m", [{"role": "user", "content": "?"}], {})
EMBED = EmbeddingRequest("m", ["a", "b"])
TEXT = "一\u2028二\x85三 🙂\x0b"
USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12, "details": {"cached_tokens": 3}}
COMPLETION = {
    "id": "1",
    "model": "m-1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
    "usage": USAGE,
}
CHUNKS: list[dict[str, Any]] = [
    {"model": "m-1", "choices": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}]},
    *({"model": "m-1", "choices": [{"delta": {"content": piece}}], "usage": None} for piece in TEXT),
    {"model": "m-1", "choices": [{"delta": {}, "finish_reason": "stop"}]},
    {"model": "m-1", "choices": [], "usage": USAGE},
]
VECTORS = {
    "data": [{"index": 1, "embedding": [0.5, -1]}, {"index": 0, "embedding": [1e-9, 2]}],
    "usage": {"prompt_tokens": 4, "total_tokens": 4},
}
ANSWER = ChatAnswer(TEXT, "m-1", "stop", USAGE)


class Pieces(httpx.AsyncByteStream):
    """A body in pieces; `taken` counts the bytes that somebody asked for."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            self.taken += len(piece)
            yield piece


def ask(body: Pieces, what: str = "chat", **headers: str) -> ChatAnswer | EmbeddingAnswer:
    """What the provider makes of a body; every error but the documented one is raised."""

    async def run() -> ChatAnswer | EmbeddingAnswer:
        def handle(_: httpx.Request) -> httpx.Response:
            return httpx.Response(200, stream=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

        provider = OpenAIProvider("test", "http://model/v1", None, transport=httpx.MockTransport(handle))
        if what == "embed":
            return await provider.embed(EMBED)
        return await provider.chat(CHAT, (lambda _: None) if what == "stream" else None)

    return asyncio.run(run())


def outcome(body: Pieces, what: str = "chat", **headers: str) -> ChatAnswer | EmbeddingAnswer | TaskError:
    try:
        return ask(body, what, **headers)
    except AttemptError as error:
        return error.error


def error_of(body: Pieces, what: str = "chat", **headers: str) -> TaskError:
    error = outcome(body, what, **headers)
    assert isinstance(error, TaskError)
    return error


def events(chunks: Iterable[Any], end: str = "\n\n", last: str = "data: [DONE]") -> bytes:
    lines = [f"data: {json.dumps(chunk, ensure_ascii=False)}" for chunk in chunks]
    return "".join(line + end for line in (": a comment", *lines, last)).encode()


def check_storable(answer: Any) -> None:
    """As PostgreSQL keeps it."""
    kept = {"result": getattr(answer, "text", None), "model": answer.model, "usage": answer.usage}
    written = orjson.dumps(kept)
    assert b"\\u0000" not in written
    if isinstance(answer, EmbeddingAnswer):
        assert all(abs(number) < 3.5e38 for vector in answer.vectors for number in vector)
    for count in (answer.usage or {}).values():
        assert isinstance(count, dict) or 0 <= count <= 10**12


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r", "\n"])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_a_stream_may_come_in_pieces_cut_anywhere(end: str, size: int) -> None:
    body = events(CHUNKS, end)
    assert ask(Pieces(body[at : at + size] for at in range(0, len(body), size)), "stream") == ANSWER
    packed = gzip.compress(body)
    pieces = Pieces(packed[at : at + size] for at in range(0, len(packed), size))
    assert ask(pieces, "stream", Content_Encoding="gzip") == ANSWER


def test_a_stream_that_ends_anywhere_is_whole_or_said_to_be_cut() -> None:
    body = events(CHUNKS)
    finished = body.index(b'"finish_reason": "stop"')
    for end in range(len(body)):
        found = outcome(Pieces([body[:end]]), "stream")
        if isinstance(found, ChatAnswer):
            assert found.text == TEXT
            assert end > finished
        else:
            assert isinstance(found, TaskError)
            assert found.code == "invalid_response"


def test_an_answer_that_ends_anywhere_is_an_invalid_response() -> None:
    body = orjson.dumps(COMPLETION)
    for end in range(len(body)):
        assert error_of(Pieces([body[:end]])).code == "invalid_response"
    packed = gzip.compress(body)
    for end in range(len(packed)):
        assert error_of(Pieces([packed[:end]]), Content_Encoding="gzip").code == "invalid_response"


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=8)
    | st.sampled_from(["\x00", "1", "stop", "x" * 10_000, -1, 2**64, 1e308, [], {}, [None], {"content": None}]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every part of a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, part in inside for place in places(part, (*path, key)))]


@st.composite
def changed(draw: st.DrawFn, valid: Any) -> Any:
    """A valid document, with other values in one to three places, or with these left out."""
    document = json.loads(json.dumps(valid))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(document)))
        if not path:
            document = draw(json_values)
            continue
        inside = document
        for key in path[:-1]:
            inside = inside[key]
        if draw(st.booleans()):
            inside[path[-1]] = draw(json_values)
        else:
            del inside[path[-1]]
    return document


def survives(body: bytes, what: str) -> None:
    found = outcome(Pieces([body]), what)
    if isinstance(found, TaskError):
        assert found.code in ("invalid_response", "provider_error")
        assert "\x00" not in found.message
    else:
        check_storable(found)


@given(changed(COMPLETION))
def test_wrong_types_anywhere_in_an_answer(document: Any) -> None:
    survives(json.dumps(document).encode(), "chat")


@given(changed(CHUNKS[:3] + CHUNKS[-2:]))
def test_wrong_types_anywhere_in_a_stream(document: Any) -> None:
    survives(events(document if isinstance(document, list) else [document]), "stream")


@given(changed(VECTORS))
def test_wrong_types_anywhere_in_vectors(document: Any) -> None:
    survives(json.dumps(document).encode(), "embed")


@given(st.lists(st.binary(max_size=30) | st.sampled_from([b"\n", b"data:", b"data: {", b'{"choices":', b"[DONE]"])))
def test_any_bytes_at_all(pieces: list[bytes]) -> None:
    for what in ("chat", "stream", "embed"):
        survives(b"".join(pieces), what)


def endless(piece: bytes) -> Iterable[bytes]:
    while True:
        yield piece


@pytest.mark.parametrize(
    ("what", "piece"),
    [
        ("chat", b" " * 65_536),
        ("chat", b'{"choices": "' + b"x" * 65_536),
        ("stream", b": still there\n\n" * 4096),
        ("stream", b'data: {"choices": [{"delta": {"content": "and so on "}}]}\n\n' * 1000),
        ("stream", b"data: " + b"[" * 65_536),
        ("embed", b"1," * 32_768),
    ],
    ids=range(6),
)
def test_an_answer_without_end_is_refused_when_it_is_too_long(what: str, piece: bytes) -> None:
    body = Pieces(endless(piece))
    error = error_of(body, what)
    assert (error.code, error.retryable) == ("invalid_response", False)
    assert "longer than 32 MB" in error.message
    assert body.taken <= MOST_BYTES + len(piece)


def test_a_little_that_expands_to_a_lot_is_refused_when_it_is_too_long() -> None:
    def bomb() -> Iterable[bytes]:
        packer = zlib.compressobj(9, wbits=31)
        block = b" " * 1024 * 1024
        while True:
            yield packer.compress(block) + packer.flush(zlib.Z_SYNC_FLUSH)

    body = Pieces(bomb())
    assert "longer than 32 MB" in error_of(body, Content_Encoding="gzip").message
    assert body.taken < MOST_BYTES / 500


@pytest.mark.parametrize("encoding", ["gzip, gzip", "br", "zstd", "deflate", "rot13"])
def test_what_is_compressed_otherwise_is_refused(encoding: str) -> None:
    body = gzip.compress(gzip.compress(orjson.dumps(COMPLETION)))
    assert error_of(Pieces([body]), Content_Encoding=encoding).code == "invalid_response"


def test_what_is_no_gzip_is_refused() -> None:
    assert error_of(Pieces([orjson.dumps(COMPLETION)]), Content_Encoding="gzip").code == "invalid_response"


@pytest.mark.parametrize("nested", [b"[" * 2000 + b"]" * 2000, b'{"a":' * 2000 + b"1" + b"}" * 2000])
def test_deep_documents_are_refused(nested: bytes) -> None:
    for what in ("chat", "stream", "embed"):
        assert error_of(Pieces([b"data: " + nested if what == "stream" else nested]), what).code == "invalid_response"


def test_a_content_type_of_any_kind_will_do() -> None:
    assert ask(Pieces([orjson.dumps(COMPLETION)]), Content_Type="image/png; charset=utf-7") == ANSWER


def test_the_last_of_doubled_keys_counts() -> None:
    body = b'{"choices": 5, "choices": [{"message": {"content": "one", "content": "two"}}]}'
    answer = ask(Pieces([body]))
    assert isinstance(answer, ChatAnswer)
    assert answer.text == "two"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ({"message": "overloaded", "code": 503}, ": overloaded"),
        ("quota", ": quota"),
        ({"message": 5}, "."),
        ({"message": "key sk-0123456789abcdef is wrong"}, "[redacted]"),
    ],
)
def test_an_error_within_a_stream_is_the_providers(error: Any, said: str) -> None:
    found = error_of(Pieces([events([*CHUNKS[:3], {"error": error}])]), "stream")
    assert (found.code, found.retryable) == ("provider_error", True)
    assert said in found.message


def test_text_that_is_none_is_not_passed_on() -> None:
    chunks = [{"choices": [{"delta": {"content": 5}, "finish_reason": "stop"}]}]
    assert error_of(Pieces([events(chunks)]), "stream").code == "invalid_response"


def test_what_a_stream_tells_can_be_stored_as_well() -> None:
    told: list[str] = []

    async def run() -> ChatAnswer:
        stream = Pieces([events([{"choices": [{"delta": {"content": "a\x00b"}, "finish_reason": "stop"}]}])])
        transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=stream))
        return await OpenAIProvider("test", "http://model/v1", None, transport=transport).chat(CHAT, told.append)

    assert asyncio.run(run()).text == "".join(told) == "a\ufffdb"


def test_a_fault_of_the_listener_is_not_the_providers() -> None:
    def refuse(_: str) -> None:
        raise ValueError("mine")

    async def run() -> None:
        transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=Pieces([events(CHUNKS)])))
        await OpenAIProvider("test", "http://model/v1", None, transport=transport).chat(CHAT, refuse)

    with pytest.raises(ValueError, match="mine"):
        asyncio.run(run())


def test_a_long_page_of_an_error_is_not_read() -> None:
    body = Pieces(endless(b"<html>" * 10_000))

    async def run() -> None:
        transport = httpx.MockTransport(lambda _: httpx.Response(502, stream=body))
        await OpenAIProvider("test", "http://model/v1", None, transport=transport).chat(CHAT)

    with pytest.raises(AttemptError) as caught:
        asyncio.run(run())
    assert caught.value.error.status_code == 502
    assert body.taken < 200_000


def test_servers_that_do_not_speak_http_well_are_errors_too() -> None:
    async def run() -> None:
        async with answering() as (url, answers):
            provider = OpenAIProvider("test", f"{url}/v1", "sk-0123456789abcdef")
            for answer in ODD_ANSWERS:
                for on_text in (None, lambda _: None):
                    answers.append(answer)
                    with suppress(AttemptError):
                        check_storable(await provider.chat(CHAT, on_text))
            await provider.aclose()

    asyncio.run(run())


def test_nor_do_such_receivers_of_webhooks_raise_anything() -> None:
    async def run() -> None:
        async with answering() as (url, answers):
            sender = Sender.to_operator(url)
            for answer in ODD_ANSWERS:
                answers.append(answer)
                found = await sender.post(url, b"{}", keep=1000)
                assert (found.status_code is None) == bool(found.error)
                assert len(found.content) <= 1000
            await sender.aclose()

    asyncio.run(run())


http_dates = st.builds(
    "{}, {:02} {} {:04} {:02}:{:02}:{:02} {}".format,
    st.sampled_from(["Mon", "Xyz", ""]),
    st.integers(0, 40),
    st.sampled_from(["Jan", "Feb", "Dec", "Foo"]),
    st.integers(0, 9999),
    st.integers(0, 30),
    st.integers(0, 70),
    st.integers(0, 70),
    st.sampled_from(["GMT", "-0000", "+9999", "-2359", "EST", ""]),
)


@given(st.text() | http_dates | st.floats().map(str) | st.integers().map(str), st.floats(0, 4e9))
def test_any_retry_after_is_seconds_up_to_a_day_or_nothing(value: str, now: float) -> None:
    seconds = parse_retry_after(value, now)
    assert seconds is None or 0 <= seconds <= 86_400
