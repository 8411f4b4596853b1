"""Around every request: its body, its turn, its id, its log line."""

import re
import secrets
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Final

import orjson
import structlog
from flask import Flask, Response

from api.at_hand import the_notes, the_request
from jobs.secrets import clean

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = structlog.get_logger(__name__)

_BODY_BYTES, _BATCH_BYTES = 10 * 1024 * 1024, 64 * 1024 * 1024
_LARGE = ("/api/v1/tasks/batch",)
SMALL_BODY_BYTES: Final = 64 * 1024
"""Bodies announced as no larger than this are there before a thread works on the request (deploy/patience.py)."""

_LARGE_BODIES = 64  # that are received at once, each in memory up to
_IN_MEMORY_BYTES = 1024 * 1024
_PIECE_BYTES = 64 * 1024
_GIVEN_ID = re.compile(r"[!-~]{1,128}")


class _Places:
    """So many may be inside; who waits gets in by the order of coming, or the quick would overtake the others again and
    again. `threading.Semaphore`, which is written in Python, takes many times as long and lets them.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[threading.Lock] = deque()
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        turn.acquire()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1


class Turns:
    """Lets so many requests be worked on at once; answers that go on for long, and bodies that come, do so outside."""

    def __init__(self, app: "WSGIApplication", at_once: int) -> None:
        self._app = app
        self._places = _Places(at_once)
        self._receiving = threading.Semaphore(_LARGE_BODIES)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if not _may_be_slow(environ):
            with self._places:
                return self._app(environ, start_response)
        if not self._receiving.acquire(blocking=False):
            return _refuse(environ, start_response, HTTPStatus.SERVICE_UNAVAILABLE, "Too many large requests at once.")
        try:
            with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as body:
                try:
                    fits = _receive(environ, body)
                except TimeoutError:
                    said = "The request did not arrive in time."
                    return _refuse(environ, start_response, HTTPStatus.REQUEST_TIMEOUT, said)
                if not fits:  # werkzeug would cut it off without a word
                    said = "The data value transmitted exceeds the capacity limit."
                    return _refuse(environ, start_response, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, said)
                with self._places:
                    return self._app({**environ, "wsgi.input": body}, start_response)
        finally:
            self._receiving.release()


def _may_be_slow(environ: "WSGIEnvironment") -> bool:
    """Whether its body may still be on its way, and is to be received; one that is too large is refused unread."""
    length = environ.get("CONTENT_LENGTH") or ""
    if length.isdigit():
        least = 0 if "HTTP_EXPECT" in environ else SMALL_BODY_BYTES
        return least < int(length) <= _most_bytes(environ["PATH_INFO"])
    return "HTTP_TRANSFER_ENCODING" in environ


def _receive(environ: "WSGIEnvironment", body: IO[bytes]) -> bool:
    """Read all of a body; False when it is too large."""
    received, most = 0, _most_bytes(environ["PATH_INFO"])
    while received <= most and (piece := environ["wsgi.input"].read(_PIECE_BYTES)):
        body.write(piece)
        received += len(piece)
    body.seek(0)
    return received <= most


def _most_bytes(path: str) -> int:
    return _BATCH_BYTES if path in _LARGE else _BODY_BYTES


def _refuse(
    environ: "WSGIEnvironment", start_response: "StartResponse", status: HTTPStatus, message: str
) -> Iterable[bytes]:
    body = orjson.dumps({"code": status.value, "status": status.phrase, "message": message}) + b"\n"
    request_id = _id_of(environ.get("HTTP_X_REQUEST_ID", ""))
    log.info(
        "request", method=environ["REQUEST_METHOD"], path=environ["PATH_INFO"], status=status.value,
        request_id=request_id,
    )  # fmt: skip
    headers = [
        ("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("X-Request-ID", request_id)
    ]  # fmt: skip
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append(("Retry-After", "2"))
    start_response(f"{status.value} {status.phrase}", headers)
    return [body]


def _id_of(given: str) -> str:
    """The id that a request came with, or one of ours: it is kept and shown, and may be a key sent by mistake."""
    return given if given and _GIVEN_ID.fullmatch(given) and clean(given) == given else secrets.token_hex(16)


def register(app: Flask) -> None:
    """Give every request an id (the caller's own, when it sent one) and log how it went."""

    @app.before_request
    def begin() -> None:
        request, notes = the_request(), the_notes()
        notes.request_id = _id_of(request.environ.get("HTTP_X_REQUEST_ID", ""))
        notes.caller = "anonymous"
        request.max_content_length = _most_bytes(request.path)
        notes.began = time.perf_counter()
        structlog.contextvars.bind_contextvars(request_id=notes.request_id)

    @app.after_request
    def end(response: Response) -> Response:
        request, notes = the_request(), the_notes()
        response.headers.add("X-Request-ID", notes.request_id)
        log.info(
            "request", method=request.method, path=request.path, status=response.status_code,
            ms=round(1000 * (time.perf_counter() - notes.began), 1),
        )  # fmt: skip
        return response

    @app.teardown_request
    def forget(_error: BaseException | None) -> None:
        structlog.contextvars.unbind_contextvars("request_id")
