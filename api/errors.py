"""Every error as the same JSON, for every route."""

from typing import Any, NoReturn

import structlog
from flask import Flask, Response, jsonify
from flask_smorest import Api
from flask_smorest import abort as _smorest_abort
from werkzeug.exceptions import HTTPException

from jobs.errors import IdempotencyMismatch, NotFound, StateConflict, Unavailable

log = structlog.get_logger(__name__)

_RETRY_AFTER_SECONDS = "2"


class JsonErrorApi(Api):
    """flask-smorest's `Api`, with a message in every error and the headers that belong to it."""

    def handle_http_exception(self, error: HTTPException) -> tuple[Any, int, dict[str, Any]]:
        """`{"code", "status", "message", "errors"?}`; keeps Allow (405) and the like."""
        payload, code, headers = super().handle_http_exception(error)
        payload.setdefault("message", _message(payload, error))
        kept = {
            name: value
            for name, value in error.get_headers()
            if name.lower() not in ("content-type", "content-length")
        }
        return payload, code, {**kept, **headers}


def abort(status: int, **details: Any) -> NoReturn:
    """End the request with an error: `message`, `errors`, `headers`."""
    _smorest_abort(status, **details)
    raise AssertionError("abort returned")


def _message(payload: dict[str, Any], error: HTTPException) -> str:
    if "errors" in payload:
        return "The request does not fit; `errors` says where."
    return error.description or error.name


def register(app: Flask) -> None:
    """Our own errors as HTTP answers."""

    @app.errorhandler(Unavailable)
    def unavailable(error: Unavailable) -> tuple[Response, int, dict[str, str]]:
        log.error("database unavailable", reason=str(error))
        payload = {
            "code": 503,
            "status": "Service Unavailable",
            "message": "The database cannot be reached right now; nothing was stored. Try again soon.",
        }
        return jsonify(payload), 503, {"Retry-After": _RETRY_AFTER_SECONDS}

    @app.errorhandler(NotFound)
    def not_found(error: NotFound) -> NoReturn:
        abort(404, message=str(error))

    @app.errorhandler(StateConflict)
    def conflict(error: StateConflict) -> NoReturn:
        abort(409, message=str(error))

    @app.errorhandler(IdempotencyMismatch)
    def mismatch(error: IdempotencyMismatch) -> NoReturn:
        abort(422, message=str(error), errors={"headers": {"Idempotency-Key": [str(error)]}})
