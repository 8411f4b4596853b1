"""HTTP as the commands use it: waits out a busy service, asks again where that is safe, goes on with streams."""

import ipaddress
import re
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import httpx
import orjson

from cli.connection import Place
from cli.problems import AWAY, WRONG, Problem, problem_of, say
from jobs import __version__
from jobs.http import parse_retry_after

_BUSY: Final = (429, 503)  # of Pressroom, with a Retry-After: nothing was done
_NOBODY: Final = (502, 503, 504)  # of a proxy that finds nobody behind it: something may have been done
_SECONDS: Final = 150.0  # for an answer: that to 10,000 tasks in one request takes a while
_SILENCE_SECONDS: Final = 45.0  # on a stream, which tells every 15 that it is still there
_BREAKS: Final = 20  # one after another, without an event in between
_PAUSES: Final = (0.5, 1.0, 2.0, 4.0)
_PAGE: Final = 500
_NEXT: Final = re.compile(r'<([^>]*)>; rel="next"')


Connect = Callable[[], "Client"]


class Event(NamedTuple):
    """One server-sent event; `id` is what `Last-Event-ID` is after it."""

    id: str
    kind: str
    data: Any


def parse_events(lines: Iterable[str]) -> Iterator[Event]:
    """The events in the lines of a stream."""
    last_id = kind = ""
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "id":
            last_id = value
        elif name == "event":
            kind = value
        elif name == "data":
            yield Event(last_id, kind, orjson.loads(value))


def lines_of(pieces: Iterable[bytes]) -> Iterator[str]:
    """The lines of a stream. (httpx's own also end at U+2028 and its like, which a text may have.)"""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line.decode()


class Client:
    """One service.

    Args:
        patience: seconds for which a busy or vanished service is waited for, each time.
    """

    def __init__(
        self,
        place: Place,
        patience: float,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = place.url
        self._patience = patience
        self._sleep = sleep
        self._has_answered = False
        headers = {"User-Agent": f"pressroom/{__version__}", "Accept": "application/json"}
        if place.key:
            headers["Authorization"] = f"Bearer {place.key}"
        try:
            self._http = httpx.Client(
                base_url=place.url,
                headers=headers,
                timeout=httpx.Timeout(_SECONDS, connect=10),
                # A proxy is not asked for this machine; certificates are looked at where there are any.
                trust_env=not _is_here(place.url),
                verify=place.url.startswith("https"),
                transport=transport,
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise Problem(f"{place.url} is no address: {error}", 2) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> Any:
        """An answer's document; parameters that are None are left out."""
        return self._document(self._send("GET", path, params=_given(params)))

    def health(self) -> Any:
        """What `/health` says, also where all is not well."""
        return self._document(self._send("GET", "/health", good=(200, 503)))

    def post(self, path: str) -> Any:
        """The document of an answer to what is asked once."""
        return self._document(self._send("POST", path))

    def create(self, path: str, body: Any, key: str) -> tuple[Any, bool]:
        """What was made, also after the connection broke in between, and whether an earlier request had made it.

        Args:
            key: the Idempotency-Key.
        """
        try:
            content = orjson.dumps(body)
        except TypeError as error:
            raise Problem(f"that cannot be sent as JSON: {error}", WRONG) from None
        headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
        answer = self._send("POST", path, content=content, headers=headers)
        return self._document(answer), "Idempotent-Replayed" in answer.headers

    def pages(self, path: str, limit: int | None, **params: Any) -> Iterator[dict[str, Any]]:
        """The items of a list, page by page along its cursors; `limit` at most."""
        left = limit
        request: tuple[str, dict[str, Any]] | None = (path, _given(params))
        while request and left != 0:
            size = min(_PAGE, left or _PAGE)
            answer = self._send("GET", request[0], params={**request[1], "limit": size})
            items = self._document(answer)
            yield from items
            left = None if left is None else left - len(items)
            following = _NEXT.search(answer.headers.get("Link", ""))
            request = (path, dict(httpx.URL(following[1]).params)) if following and items else None

    def slice(self, path: str, **params: Any) -> tuple[list[dict[str, Any]], int]:
        """One page, and how many there are in all."""
        answer = self._send("GET", path, params=_given(params))
        total = answer.headers.get("X-Total-Count", "")
        if not total.isdecimal():
            raise problem_of(answer.status_code, None, self.url)
        return self._document(answer), int(total)

    def follow(self, path: str) -> Iterator[Event]:
        """The events of a stream until its end, however often the connection breaks."""
        last_id, breaks = "", 0
        while True:
            began, breaks = time.monotonic(), breaks + 1
            headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
            response = self._send("GET", path, headers=headers, stream=True)
            try:
                for event in parse_events(lines_of(response.iter_bytes())):
                    last_id, breaks = event.id or last_id, 0
                    yield event
                    if event.kind == "end":
                        return
            except httpx.TransportError:
                pass  # as when it was closed early: asked for again
            except ValueError:
                raise problem_of(response.status_code, None, self.url) from None
            finally:
                response.close()
            if time.monotonic() - began > _SILENCE_SECONDS:
                breaks = 0
            if breaks > _BREAKS:
                raise Problem(f"the events of {path} break off again and again", AWAY)
            self._sleep(_PAUSES[0])

    def _send(
        self, method: str, path: str, *, stream: bool = False, good: tuple[int, ...] = (200, 201), **parts: Any
    ) -> httpx.Response:
        """The answer, once there is a good one.

        Raises:
            Problem: it is a refusal, or there is none for longer than the patience lasts.
        """
        if stream:
            parts["timeout"] = httpx.Timeout(_SILENCE_SECONDS, connect=10)
        request = self._http.build_request(method, path, **parts)
        deadline = time.monotonic() + self._patience
        may_repeat = method == "GET" or "Idempotency-Key" in request.headers
        tries = 0
        while True:
            pause = _PAUSES[min(tries, len(_PAUSES) - 1)]
            tries += 1
            try:
                response = self._http.send(request, stream=stream)
                self._has_answered = True
                if response.status_code in good:
                    return response
                response.read()
            except httpx.TransportError as error:
                reached = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                problem = Problem(_unreachable(self.url, error), AWAY)
                if not self._has_answered or (reached and not may_repeat):
                    raise problem from None
            else:
                problem = self._refusal(response)
                asked = parse_retry_after(response.headers.get("Retry-After"), time.time())
                is_busy = response.status_code in _BUSY and asked is not None
                if not is_busy and not (response.status_code in _NOBODY and may_repeat):
                    raise problem
                pause = max(asked or 0.0, pause)
            if time.monotonic() + pause > deadline:
                problem.message += f" (waited as long as --patience {self._patience:g} allows)"
                raise problem
            say(f"{problem.message} Trying again in {pause:g} s.")
            self._sleep(pause)

    def _refusal(self, response: httpx.Response) -> Problem:
        if response.is_redirect:
            # Not followed: the key is for this service only.
            return Problem(f"{self.url} sends elsewhere, to {response.headers.get('Location')}: set PRESSROOM_URL", 2)
        try:
            body = orjson.loads(response.content)
        except ValueError:
            body = None
        return problem_of(response.status_code, body, self.url)

    def _document(self, response: httpx.Response) -> Any:
        """What a good answer says; raises `Problem` where it is not JSON, so that somebody else must have given it."""
        try:
            return orjson.loads(response.content)
        except ValueError:
            raise problem_of(response.status_code, None, self.url) from None


def _given(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _is_here(url: str) -> bool:
    host = httpx.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _unreachable(url: str, error: httpx.TransportError) -> str:
    why = re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
    return f"{url} does not answer ({why}); is it running, and is PRESSROOM_URL (or PORT) right?"
