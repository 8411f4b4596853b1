"""Posts a body to an address somebody gave us, and says how that went. Never raises, never takes long."""

import asyncio
import errno
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult
from httpx_aiohttp import AiohttpTransport

from jobs import __version__
from jobs.errors import PressroomError
from jobs.http import parse_retry_after, proxy_for
from jobs.webhooks.guard import Networks, is_allowed

TIMEOUT_SECONDS: Final = 10.0
"""For everything together: looking up the name, connecting, redirects, and the answer."""

_REDIRECTS: Final = frozenset({301, 302, 307, 308})  # 303 asks for a GET of something else
_MOST_REDIRECTS: Final = 3
_NOT_ALLOWED: Final = "callbacks may not go to its address (see CALLBACK_ALLOWED_NETWORKS)"
_HEADERS: Final = {"Content-Type": "application/json", "User-Agent": f"Pressroom/{__version__}"}


@dataclass(frozen=True, slots=True)
class Answer:
    """How a post went.

    Attributes:
        status_code: of the receiver's answer; None when there was none.
        error: why there was none, without anything of the URL but its host's name.
        retry_after: seconds the receiver asked us to wait.
        seconds: how long it took.
        content: the beginning of the answer's body, if that was asked for.
    """

    status_code: int | None
    error: str | None
    retry_after: float | None
    seconds: float
    content: bytes = b""

    @property
    def is_success(self) -> bool:
        """2xx."""
        return self.status_code is not None and httpx.codes.is_success(self.status_code)


class _Refused(PressroomError):
    """A redirect that is not followed; the message says why."""


class Sender:
    """Posts to addresses that callers name, or to one that the operator did."""

    def __init__(self, transport: AiohttpTransport) -> None:
        self._transport = transport

    @classmethod
    def to_others(cls, allowed: Networks) -> "Sender":
        """For addresses that callers name: public ones, and those in `allowed`, are connected to, no others."""
        transport = AiohttpTransport(client=lambda: _guarded(allowed, transport.ssl_context))
        return cls(transport)

    @classmethod
    def to_operator(cls, url: str) -> "Sender":
        """For the address that the operator gave: it may be anywhere, also behind a proxy."""
        return cls(AiohttpTransport(proxy=proxy_for(httpx.URL(url))))

    async def post(self, url: str, body: bytes, headers: Mapping[str, str] | None = None, *, keep: int = 0) -> Answer:
        """Post JSON.

        Args:
            keep: bytes of the answer's body to read.
        """
        began = time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                response = await self._follow(httpx.URL(url), body, {**_HEADERS, **(headers or {})})
                try:
                    content = await _beginning(response, keep)
                finally:
                    await response.aclose()
        except (
            TimeoutError,
            OSError,
            ValueError,
            httpx.HTTPError,
            httpx.InvalidURL,
            aiohttp.ClientError,
            _Refused,
        ) as e:
            return Answer(None, _why(e), None, time.monotonic() - began)
        wait = parse_retry_after(response.headers.get("Retry-After"), time.time())
        return Answer(response.status_code, None, wait, time.monotonic() - began, content)

    async def _follow(self, url: httpx.URL, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        """The answer that is no redirect. Every hop makes a connection of its own, whose address is checked."""
        for _ in range(_MOST_REDIRECTS + 1):
            request = httpx.Request("POST", url, headers=headers, content=body)
            response = await self._transport.handle_async_request(request)
            target = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or not target:
                return response
            await response.aclose()
            following = url.join(target)
            if following.scheme != "https" and (url.scheme == "https" or following.scheme != "http"):
                raise _Refused("redirected to an address without TLS")
            url = following
        raise _Refused("redirected too often")

    async def aclose(self) -> None:
        """Close what is open."""
        await self._transport.aclose()


def _guarded(allowed: Networks, tls: Any) -> aiohttp.ClientSession:
    """A session that checks each address where it is connected to: however it was written, looked up or redirected to,
    no other one is used in its place.
    """

    def checked(info: Any) -> socket.socket:
        family, kind, proto, _, address = info
        if not is_allowed(address[0], allowed):
            raise OSError(errno.EACCES, _NOT_ALLOWED)
        return socket.socket(family, kind, proto)

    connector = aiohttp.TCPConnector(
        ssl=tls, resolver=_Lookups(), use_dns_cache=False, socket_factory=checked, limit=0, force_close=True
    )
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


class _Lookups(AbstractResolver):
    """Looks names up, each in a thread of its own: a slow name server holds up nobody else's look-ups, nor the end."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()

        def settle(settler: Callable[[Any], None], value: Any) -> None:
            if not done.done():
                settler(value)

        def look() -> None:
            settler: Callable[[Any], None] = done.set_result
            value: Any = None
            try:
                value = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
            except OSError as error:
                settler, value = done.set_exception, error
            except UnicodeError:
                settler, value = done.set_exception, OSError(errno.EINVAL, "not a name")
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(settle, settler, value)

        threading.Thread(target=look, name="lookup", daemon=True).start()
        found = await done
        return [
            ResolveResult(
                hostname=host, host=address[0], port=port, family=kind, proto=proto, flags=socket.AI_NUMERICHOST
            )
            for kind, _, proto, _, address in found
        ]

    async def close(self) -> None:
        """Nothing is kept."""


async def _beginning(response: httpx.Response, keep: int) -> bytes:
    content = b""
    if keep:
        async for part in response.aiter_raw():
            content += part
            if len(content) >= keep:
                break
    return content[:keep]


def _why(error: Exception) -> str:
    """What went wrong, in words that hold nothing of the URL: it may carry tokens."""
    cause = error.__cause__ or error
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_SECONDS:g} s"
    if isinstance(cause, aiohttp.ClientConnectorCertificateError):
        return "its certificate is not trusted"
    if isinstance(cause, aiohttp.ClientConnectorError):
        return _NOT_ALLOWED if cause.errno == errno.EACCES else f"cannot connect: {cause.strerror or 'no reason given'}"
    if isinstance(error, _Refused):
        return str(error)
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol | ValueError):
        return "not a URL that can be called"
    return f"the exchange broke off ({type(cause).__name__})"
