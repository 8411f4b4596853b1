"""Any endpoint that speaks OpenAI's chat completions (DeepSeek, OpenAI, Ollama, vLLM...), over httpx.

https://platform.openai.com/docs/api-reference/chat
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from jobs.errors import AttemptError, TaskError
from jobs.http import parse_retry_after, proxy_for
from jobs.providers.base import ChatAnswer, ChatRequest, OnText

# Seconds. A model may think for as long as its task may take: the read limit is the longest time limit of a task.
TIMEOUTS: Final = httpx.Timeout(connect=10, read=86_400, write=30, pool=30)
# 0 is aiohttp's word for no limit: the worker's slots bound the calls, not a pool.
_LIMITS: Final = httpx.Limits(max_connections=0, keepalive_expiry=30)
_RETRYABLE_STATUS: Final = frozenset({408, 409, 425, 429})
_MESSAGE_CHARS: Final = 300


class OpenAIProvider:
    """One endpoint and its key."""

    def __init__(
        self,
        name: str,
        base_url: str,
        api_key: str | None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.name = name
        self._api_key = api_key
        self._url = httpx.URL(base_url.rstrip("/") + "/chat/completions")
        self._headers = httpx.Headers({
            "Host": self._url.netloc.decode("ascii"),
            "Content-Type": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": "pressroom",
        })  # fmt: skip
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._extensions = {"timeout": TIMEOUTS.as_dict()}
        # httpx's own pool rescans all connections on each request, aiohttp's does not; and a request to a
        # transport costs half of one through a client, whose cookies, redirects and hooks nobody needs here.
        self._transport = transport or AiohttpTransport(limits=_LIMITS, proxy=proxy_for(self._url))

    async def chat(self, request: ChatRequest, on_text: OnText | None = None) -> ChatAnswer:
        """Ask for one completion; with `on_text`, as a stream of server-sent events.

        Raises:
            AttemptError: rate_limited, provider_error, provider_unreachable, timeout or invalid_response.
        """
        body: dict[str, Any] = {"model": request.model, "messages": request.messages, **request.options}
        if on_text is None:
            async with self._post(body) as response:
                return _answer(await response.aread())
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        async with self._post(body) as response:
            return await _streamed(response.aiter_lines(), on_text)

    @asynccontextmanager
    async def _post(self, body: dict[str, Any]) -> AsyncIterator[httpx.Response]:
        """The open response, if it is a success; failures while it is read become `AttemptError`s, too."""
        request = httpx.Request(
            "POST", self._url, headers=self._headers, content=orjson.dumps(body), extensions=self._extensions
        )
        try:
            response = await self._transport.handle_async_request(request)
            try:
                if not response.is_success:
                    raise AttemptError(self._refusal(response, await response.aread()))
                yield response
            finally:
                await response.aclose()
        except (httpx.HTTPError, aiohttp.ClientError) as error:
            raise AttemptError(_transport_error(error, self.name)) from error

    def _refusal(self, response: httpx.Response, content: bytes) -> TaskError:
        status = response.status_code
        said = _said(content)
        if self._api_key:
            # Before it is cut, or a part of the key could stay.
            said = said.replace(self._api_key, "[redacted]")
        message = f"{self.name} answered {status}{said[:_MESSAGE_CHARS]}"
        return TaskError(
            code="rate_limited" if status == httpx.codes.TOO_MANY_REQUESTS else "provider_error",
            message=message,
            retryable=status in _RETRYABLE_STATUS or status >= 500,
            status_code=status,
            retry_after=parse_retry_after(response.headers.get("Retry-After"), time.time()),
        )

    async def aclose(self) -> None:
        """Close its connections."""
        await self._transport.aclose()


def _transport_error(error: Exception, name: str) -> TaskError:
    """A failed exchange as a task's error.

    The transport calls a dropped connection a ConnectTimeout; only what aiohttp itself called a
    time-out while reading is one.
    """
    timed_out = isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout)
    if timed_out and not isinstance(error.__cause__, aiohttp.ClientConnectorError):
        return TaskError("timeout", f"{name} did not answer in time.", retryable=True)
    said = f" ({error})"[:_MESSAGE_CHARS] if str(error) else ""
    return TaskError("provider_unreachable", f"{name} could not be reached or hung up{said}.", retryable=True)


def _said(content: bytes) -> str:
    """`: message` from an error body of OpenAI's shape, or nothing."""
    try:
        message = orjson.loads(content)["error"]["message"]
    except (ValueError, LookupError, TypeError):
        return ""
    return f": {message}" if isinstance(message, str) else ""


def _invalid(why: str) -> AttemptError:
    # Retryable: a proxy's error page or a cut answer says nothing about the next try.
    return AttemptError(TaskError("invalid_response", f"The provider's answer {why}.", retryable=True))


def _answer(content: bytes) -> ChatAnswer:
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


async def _streamed(lines: AsyncIterator[str], on_text: OnText) -> ChatAnswer:
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


def _checked(text: str, model: Any, finish_reason: Any, usage: Any) -> ChatAnswer:
    return ChatAnswer(
        # PostgreSQL cannot hold NUL characters.
        text=text.replace("\x00", "\ufffd"),
        model=model if isinstance(model, str) else "",
        finish_reason=finish_reason if isinstance(finish_reason, str) else None,
        usage=usage if isinstance(usage, dict) else None,
    )
