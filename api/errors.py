"""Every error as the same JSON, for every route."""

from http import HTTPStatus
from typing import Any, NoReturn

import structlog
from flask import Flask, Response, jsonify
from flask_smorest import Api
from flask_smorest import abort as _smorest_abort
from marshmallow import Schema, fields
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import NotFound as NotFoundHere

from jobs.errors import IdempotencyMismatch, NotFound, StateConflict, TooManyPending, Unavailable, UnknownParents

log = structlog.get_logger(__name__)

_RETRY_AFTER_SECONDS = "2"
_RETRY_WHEN_FULL_SECONDS = "30"


class ErrorSchema(Schema):
    """Every error."""

    code = fields.Integer(required=True, metadata={"description": "The status code."})
    status = fields.String(required=True)
    message = fields.String(required=True, metadata={"description": "For people."})
    errors = fields.Dict(metadata={"description": "What is wrong where: by `json`, `query` or `headers`, and field."})


class JsonErrorApi(Api):
    """flask-smorest's `Api`, with a message in every error and the headers that belong to it."""

    ERROR_SCHEMA = ErrorSchema
    DEFAULT_ERROR_RESPONSE_NAME = None

    def handle_http_exception(self, error: HTTPException) -> tuple[Any, int, dict[str, Any]]:
        """`{"code", "status", "message", "errors"?}`; keeps Allow (405) and the like."""
        payload, code, headers = super().handle_http_exception(error)
        payload.setdefault("message", _message(payload, error))
        kept = {
            name: value for name, value in error.get_headers() if name.lower() not in ("content-type", "content-length")
        }
        return payload, code, {**kept, **(headers or {})}


def abort(status: int, **details: Any) -> NoReturn:
    """End the request with an error: `message`, `errors`, `headers`."""
    _smorest_abort(status, **details)
    raise AssertionError("abort returned")


def _message(payload: dict[str, Any], error: HTTPException) -> str:
    if "errors" in payload:
        return "The request does not fit; `errors` says where."
    # The router's own words speak of an address typed by hand.
    if error.description == NotFoundHere.description:
        return "There is no such page."
    return error.description or error.name


def _answer(status: HTTPStatus, message: str, **more: Any) -> tuple[Response, int]:
    """For use outside the views, where `abort` is not handled."""
    return jsonify({"code": status.value, "status": status.phrase, "message": message, **more}), status.value


def register(app: Flask) -> None:
    """Our own errors as HTTP answers."""

    @app.errorhandler(Unavailable)
    def unavailable(error: Unavailable) -> tuple[Response, int, dict[str, str]]:
        log.error("database unavailable", reason=str(error))
        said = "The database cannot be reached right now. Try again soon."
        return *_answer(HTTPStatus.SERVICE_UNAVAILABLE, said), {"Retry-After": _RETRY_AFTER_SECONDS}

    @app.errorhandler(TooManyPending)
    def full(error: TooManyPending) -> tuple[Response, int, dict[str, str]]:
        return *_answer(HTTPStatus.SERVICE_UNAVAILABLE, str(error)), {"Retry-After": _RETRY_WHEN_FULL_SECONDS}

    @app.errorhandler(NotFound)
    def not_found(error: NotFound) -> tuple[Response, int]:
        return _answer(HTTPStatus.NOT_FOUND, str(error))

    @app.errorhandler(StateConflict)
    def conflict(error: StateConflict) -> tuple[Response, int]:
        return _answer(HTTPStatus.CONFLICT, str(error))

    @app.errorhandler(IdempotencyMismatch)
    def mismatch(error: IdempotencyMismatch) -> tuple[Response, int]:
        errors = {"headers": {"Idempotency-Key": [str(error)]}}
        return _answer(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), errors=errors)

    @app.errorhandler(UnknownParents)
    def no_parents(error: UnknownParents) -> tuple[Response, int]:
        errors = {"json": {"depends_on": [str(error)]}}
        return _answer(HTTPStatus.UNPROCESSABLE_ENTITY, _message({"errors": errors}, HTTPException()), errors=errors)
