"""Around every request: its turn, its id, its log line."""

import re
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog
from flask import Flask, Response, g, request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = structlog.get_logger(__name__)

_BODY_BYTES, _BATCH_BYTES = 10 * 1024 * 1024, 64 * 1024 * 1024
_LARGE = ("/api/v1/tasks/batch",)
_GIVEN_ID = re.compile(r"[!-~]{1,128}")


class Turns:
    """Lets so many requests be worked on at once; answers that go on for long do so outside."""

    def __init__(self, app: "WSGIApplication", at_once: int) -> None:
        self._app = app
        self._places = threading.Semaphore(at_once)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        with self._places:
            return self._app(environ, start_response)


def register(app: Flask) -> None:
    """Give every request an id (the caller's own, when it sent one) and log how it went."""

    @app.before_request
    def begin() -> None:
        given = request.headers.get("X-Request-ID", "")
        g.request_id = given if _GIVEN_ID.fullmatch(given) else uuid4().hex
        g.caller = "anonymous"
        request.max_content_length = _BATCH_BYTES if request.path in _LARGE else _BODY_BYTES
        g.began = time.perf_counter()
        structlog.contextvars.bind_contextvars(request_id=g.request_id)

    @app.after_request
    def end(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.request_id
        log.info(
            "request", method=request.method, path=request.path, status=response.status_code,
            ms=round(1000 * (time.perf_counter() - g.began), 1),
        )  # fmt: skip
        return response

    @app.teardown_request
    def forget(_error: BaseException | None) -> None:
        structlog.contextvars.unbind_contextvars("request_id")
