"""What endpoints that speak OpenAI's API answer: read, and checked."""

import math
from collections.abc import AsyncIterator
from itertools import chain
from typing import Any

import orjson

from jobs.errors import AttemptError, TaskError
from jobs.fields import storable
from jobs.providers.base import ChatAnswer, EmbeddingAnswer, EmbeddingRequest, OnText


def _invalid(why: str) -> AttemptError:
    # Retryable: a proxy's error page or a cut answer says nothing about the next try.
    return AttemptError(TaskError("invalid_response", f"The provider's answer {why}.", retryable=True))


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
        raise _invalid("is not a chat completion") from error
    if not isinstance(text, str):
        raise _invalid("has no text")
    return _checked(text, model, finish_reason, usage)


async def streamed(lines: AsyncIterator[str], on_text: OnText) -> ChatAnswer:
    """Put a stream of `data: {...}` lines together.

    Raises:
        AttemptError: invalid_response, also when the stream ends before the model did.
    """
    parts: list[str] = []
    finish_reason: Any = None
    model: Any = None
    usage: Any = None
    done = False
    async for line in lines:
        if not line.startswith("data:"):
            continue  # blank lines, comments, and fields that chat completions do not use
        payload = line[5:].strip()
        if payload == "[DONE]":
            done = True
            break
        try:
            chunk = orjson.loads(payload)
            model = chunk.get("model") or model
            usage = chunk.get("usage") or usage
            for choice in chunk.get("choices") or []:
                piece = (choice.get("delta") or {}).get("content")
                finish_reason = choice.get("finish_reason") or finish_reason
                if piece:
                    parts.append(piece)
                    on_text(piece)
        except (ValueError, TypeError, AttributeError) as error:
            raise _invalid("is not a stream of chat completion chunks") from error
    if not done and finish_reason is None:
        raise _invalid("ended in the middle")
    return _checked("".join(parts), model, finish_reason, usage)


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
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _invalid("is not a list of embeddings") from error
    if len(found) != len(request.texts):
        raise _invalid(f"has {len(found)} vectors for {len(request.texts)} texts")
    lengths = {len(vector) for vector in found}
    if len(lengths) != 1 or 0 in lengths or not all(map(math.isfinite, chain.from_iterable(found))):
        raise _invalid("has vectors that are empty or of different lengths")
    if request.dimensions not in (None, *lengths):
        message = f"The model gives vectors of {lengths.pop()} dimensions, not of {request.dimensions}."
        raise AttemptError(TaskError("invalid_response", message))
    return EmbeddingAnswer(found, request.model, _numbers(usage))


def _checked(text: str, model: Any, finish_reason: Any, usage: Any) -> ChatAnswer:
    return ChatAnswer(
        text=storable(text),
        model=storable(model) if isinstance(model, str) else "",
        finish_reason=storable(finish_reason) if isinstance(finish_reason, str) else None,
        usage=_numbers(usage),
    )


def _numbers(counted: Any, *, with_details: bool = True) -> dict[str, Any] | None:
    """What a provider counted; what else it says there is of no use, and might be what cannot be stored."""
    if not isinstance(counted, dict):
        return None
    numbers: dict[str, Any] = {name: value for name, value in counted.items() if isinstance(value, int | float)}
    if with_details:
        numbers |= {
            name: _numbers(value, with_details=False) for name, value in counted.items() if isinstance(value, dict)
        }
    return {storable(name): value for name, value in numbers.items()}
