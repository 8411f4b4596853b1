"""Any endpoint that speaks OpenAI's API (DeepSeek, OpenAI, Ollama, vLLM...): chat and embeddings, over httpx.

https://platform.openai.com/docs/api-reference/chat
https://platform.openai.com/docs/api-reference/embeddings
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
from jobs.providers import answers, reading
from jobs.providers.base import ChatAnswer, ChatRequest, EmbeddingAnswer, EmbeddingRequest, OnText
from jobs.secrets import clean, learn

# Seconds. A model may think for as long as its task may take: the read limit is the longest time limit of a task.
TIMEOUTS: Final = httpx.Timeout(connect=10, read=86_400, write=30, pool=30)
# 0 is aiohttp's word for no limit: the worker's slots bound the calls, not a pool.
_LIMITS: Final = httpx.Limits(max_connections=0, keepalive_expiry=30)
_RETRYABLE_STATUS: Final = frozenset({408, 409, 425, 429})
_BROKEN_OFF: Final = (httpx.HTTPError, aiohttp.ClientError)
_MESSAGE_CHARS: Final = 300
_ERROR_BYTES: Final = 64 * 1024


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
        base = httpx.URL(base_url.rstrip("/"))
        if api_key:
            # aiohttp refuses to send both.
            base = base.copy_with(userinfo=b"")
        self._chat = httpx.URL(f"{base}/chat/completions")
        self._embeddings = httpx.URL(f"{base}/embeddings")
        self._headers = httpx.Headers({
            "Host": base.netloc.decode("ascii"),
            "Content-Type": "application/json",
            "Accept-Encoding": reading.ENCODINGS,
            "User-Agent": "pressroom",
        })  # fmt: skip
        if api_key:
            learn([api_key])
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._extensions = {"timeout": TIMEOUTS.as_dict()}
        # httpx's own pool rescans all connections on each request, aiohttp's does not; and a request to a
        # transport costs half of one through a client, whose cookies, redirects and hooks nobody needs here.
        self._transport = transport or AiohttpTransport(limits=_LIMITS, proxy=proxy_for(base))

    async def chat(self, request: ChatRequest, on_text: OnText | None = None) -> ChatAnswer:
        """Ask for one completion; with `on_text`, as a stream of server-sent events.

        Raises:
            AttemptError: rate_limited, provider_error, provider_unreachable, timeout or invalid_response.
        """
        body: dict[str, Any] = {"model": request.model, "messages": request.messages, **request.options}
        if on_text is None:
            async with self._post(self._chat, body) as response:
                return answers.completion(await reading.whole(response))
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        async with self._post(self._chat, body) as response:
            return await answers.streamed(reading.lines(response), on_text)

    async def embed(self, request: EmbeddingRequest) -> EmbeddingAnswer:
        """The vectors of texts, by one call; raises like `chat`."""
        body: dict[str, Any] = {"model": request.model, "input": request.texts}
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        async with self._post(self._embeddings, body) as response:
            return answers.vectors(await reading.whole(response), request)

    @asynccontextmanager
    async def _post(self, url: httpx.URL, body: dict[str, Any]) -> AsyncIterator[httpx.Response]:
        """The open response, if it is a success; failures while it is read become `AttemptError`s, too."""
        request = httpx.Request(
            "POST", url, headers=self._headers, content=orjson.dumps(body), extensions=self._extensions
        )
        try:
            response = await self._sent(request)
            try:
                if not response.is_success:
                    raise AttemptError(self._refusal(response, await _said(response)))
                yield response
            finally:
                await response.aclose()
        except _BROKEN_OFF as error:
            raise AttemptError(_transport_error(error, self.name)) from error

    async def _sent(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self._transport.handle_async_request(request)
        except ValueError as error:  # of the transport itself: a reason phrase that is no text, for one
            raise reading.invalid("is not well-formed HTTP") from error

    def _refusal(self, response: httpx.Response, said: str) -> TaskError:
        status = response.status_code
        message = f"{self.name} answered {status}" + (f": {said}" if said else "")
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
    said = f" ({clean(str(error))})"[:_MESSAGE_CHARS] if str(error) else ""
    return TaskError("provider_unreachable", f"{name} could not be reached or hung up{said}.", retryable=True)


async def _said(response: httpx.Response) -> str:
    """The message in an error's body, if there is one that can be read."""
    try:
        return answers.said(await reading.whole(response, _ERROR_BYTES))
    except (AttemptError, *_BROKEN_OFF):
        return ""
