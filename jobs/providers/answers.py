"""What endpoints that speak OpenAI's API answer: read, and checked."""

from collections.abc import AsyncIterator
from itertools import chain, islice
from typing import Any, Final

import orjson

from jobs.errors import AttemptError, TaskError
from jobs.fields import storable
from jobs.providers.base import ChatAnswer, EmbeddingAnswer, EmbeddingRequest, OnText
from jobs.providers.reading import invalid
from jobs.secrets import clean

_MESSAGE_CHARS: Final = 300
_NAME_CHARS: Final = 200
_MOST_COUNTS: Final = 50
_MOST_TOKENS: Final = 10**12
_LARGEST: Final = 3.4e38  # that pgvector's numbers can be


def said(content: bytes) -> str:
    """The message in an error body of OpenAI's shape, or nothing."""
    try:
        return _message(orjson.loads(content)["error"])
    except (ValueError, LookupError, TypeError):
        return ""


def _message(error: Any) -> str:
    """Cleaned before it is cut, or a part of a key could stay."""
    message = error.get("message") if isinstance(error, dict) else error
    return clean(storable(message))[:_MESSAGE_CHARS] if isinstance(message, str) else ""


def completion(content: bytes) -> ChatAnswer:
    """The one completion in an answer's body.

    Raises:
        AttemptError: invalid_response.
    """
    try:
        data = orjson.loads(content)
        choice = data["choices"][0]
        text, finish_reason = choice["message"]["content"], choice.get("finish_reason")
        model, usage = data.get("model"), data.get("usage")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise invalid("is not a chat completion") from error
    if not isinstance(text, str):
        raise invalid("has no text")
    return _checked(text, model, finish_reason, usage)


async def streamed(lines: AsyncIterator[bytes], on_text: OnText) -> ChatAnswer:
    """Put a stream of `data: {...}` lines together.

    Raises:
        AttemptError: invalid_response, also when the stream ends before the model did; provider_error when it says so.
    """
    parts: list[str] = []
    finish_reason: Any = None
    model: Any = None
    usage: Any = None
    done = False
    async for line in lines:
        if not line.startswith(b"data:"):
            continue  # blank lines, comments, and fields that chat completions do not use
        payload = line[5:].strip()
        if payload == b"[DONE]":
            done = True
            break
        chunk, pieces, reason = _chunk(payload)
        model = chunk.get("model") or model
        usage = chunk.get("usage") or usage
        finish_reason = reason or finish_reason
        for piece in pieces:
            parts.append(piece)
            on_text(piece)
    if not done and finish_reason is None:
        raise invalid("ended in the middle")
    return _checked("".join(parts), model, finish_reason, usage)


def _chunk(payload: bytes) -> tuple[dict[str, Any], list[str], Any]:
    """A part of a stream, the texts in it, and why the model stopped, if it did."""
    try:
        chunk: dict[str, Any] = orjson.loads(payload)
        error, choices = chunk.get("error"), chunk.get("choices") or []
        found = [(choice.get("delta") or {}).get("content") or "" for choice in choices]
        reasons = [choice.get("finish_reason") for choice in choices]
    except (ValueError, TypeError, AttributeError) as problem:
        raise invalid("is not a stream of chat completion chunks") from problem
    if error:
        what = f": {message}" if (message := _message(error)) else "."
        raise AttemptError(TaskError("provider_error", f"The provider broke its answer off{what}", retryable=True))
    if not all(isinstance(piece, str) for piece in found):
        raise invalid("has something else than text")
    return chunk, [storable(piece) for piece in found if piece], next(filter(None, reasons), None)


def vectors(content: bytes, request: EmbeddingRequest) -> EmbeddingAnswer:
    """The vectors in an answer's body, in the order of the request's texts.

    Raises:
        AttemptError: invalid_response.
    """
    try:
        data = orjson.loads(content)
        entries = sorted(data["data"], key=lambda entry: entry.get("index", 0))
        found = [[float(number) for number in entry["embedding"]] for entry in entries]
        usage = data.get("usage")
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise invalid("is not a list of embeddings") from error
    if len(found) != len(request.texts):
        raise invalid(f"has {len(found)} vectors for {len(request.texts)} texts")
    lengths = {len(vector) for vector in found}
    if len(lengths) != 1 or 0 in lengths:
        raise invalid("has vectors that are empty or of different lengths")
    if not all(abs(number) <= _LARGEST for number in chain.from_iterable(found)):
        raise invalid("has numbers that are too large")
    if request.dimensions not in (None, *lengths):
        message = f"The model gives vectors of {lengths.pop()} dimensions, not of {request.dimensions}."
        raise AttemptError(TaskError("invalid_response", message))
    return EmbeddingAnswer(found, request.model, _numbers(usage))


def _checked(text: str, model: Any, finish_reason: Any, usage: Any) -> ChatAnswer:
    return ChatAnswer(
        text=storable(text),
        model=storable(model[:_NAME_CHARS]) if isinstance(model, str) else "",
        finish_reason=storable(finish_reason[:_NAME_CHARS]) if isinstance(finish_reason, str) else None,
        usage=_numbers(usage),
    )


def _numbers(counted: Any, *, with_details: bool = True) -> dict[str, Any] | None:
    """What a provider counted, within reason; what else it says there is of no use, and might not be storable."""
    if not isinstance(counted, dict):
        return None
    numbers: dict[str, Any] = {
        name: max(0, min(value, _MOST_TOKENS))
        for name, value in counted.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    if with_details:
        numbers |= {
            name: _numbers(value, with_details=False) for name, value in counted.items() if isinstance(value, dict)
        }
    return {storable(name[:_NAME_CHARS]): value for name, value in islice(numbers.items(), _MOST_COUNTS)}
