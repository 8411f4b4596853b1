"""/api/v1/callbacks: what was sent when tasks and batches ended."""

from typing import Any

from flask import jsonify, url_for
from marshmallow import fields, validate

from api import services
from api.bodies import Answer, Blueprint
from api.paging import Paging, page_of, shown_by, sort_field
from api.schemas import POSITIVE_ID
from jobs.fields import QueryInteger
from jobs.shapes import shown_url
from jobs.store import listing
from jobs.store.database import Row

blueprint = Blueprint("callbacks", __name__, url_prefix="/api/v1/callbacks", description="Word of the end, delivered")

STATUSES = ("PENDING", "DELIVERED", "FAILED")


class CallbackSchema(Answer):
    """A callback as returned."""

    id = fields.Integer()
    webhook_id = fields.String(metadata={"description": "The header webhook-id, the same in every try."})
    type = fields.String(metadata={"example": "task.completed"})
    task_id = fields.Integer(allow_none=True)
    batch_id = fields.Integer(allow_none=True)
    callback_url = fields.String()
    status = fields.String(validate=validate.OneOf(STATUSES))
    attempts = fields.Integer()
    next_at = fields.AwareDateTime(allow_none=True)
    created_at = fields.AwareDateTime()
    completed_at = fields.AwareDateTime(allow_none=True)


class CallbackAttemptSchema(Answer):
    """One try."""

    number = fields.Integer()
    at = fields.AwareDateTime()
    status_code = fields.Integer(allow_none=True, metadata={"description": "The receiver's, when it answered."})
    error = fields.String(allow_none=True, metadata={"description": "Why there was no answer."})
    duration = fields.Float(metadata={"description": "Seconds."})


class CallbackWithAttempts(CallbackSchema):
    """A callback and what became of its tries."""

    log = fields.List(fields.Nested(CallbackAttemptSchema))


class CallbackSecret(Answer):
    """What callbacks are signed with."""

    secret = fields.String(metadata={"example": "whsec_..."})


class CallbackQuery(Paging):
    """The query of the list."""

    task_id = QueryInteger(validate=POSITIVE_ID)
    batch_id = QueryInteger(validate=POSITIVE_ID)
    status = fields.String(validate=validate.OneOf(STATUSES))
    sort = sort_field(listing.CALLBACKS)


_shown = shown_by(CallbackSchema)


def shown(row: Row) -> dict[str, Any]:
    """A callback's row as the API returns it."""
    return {**_shown(row), "callback_url": shown_url(row["callback_url"])}


@blueprint.get("")
@blueprint.arguments(CallbackQuery, location="query", unknown="raise")
@blueprint.response(200, CallbackSchema(many=True))
def list_callbacks(query: dict[str, Any]) -> Any:
    """Callbacks, newest first."""
    return page_of(listing.CALLBACKS, query, shown)


@blueprint.get("/<id:callback_id>")
@blueprint.response(200, CallbackWithAttempts)
def get_callback(callback_id: int) -> Any:
    """One callback, with every attempt."""
    row, attempts = services.get().callbacks.get(callback_id)
    return jsonify({**shown(row), "log": attempts})


@blueprint.post("/<id:callback_id>/replay")
@blueprint.response(202, CallbackSchema)
def replay_callback(callback_id: int) -> Any:
    """Deliver it again, now, whatever became of it before."""
    location = url_for("callbacks.get_callback", callback_id=callback_id)
    return jsonify(shown(services.get().callbacks.replay(callback_id))), 202, {"Location": location}


@blueprint.get("/secret")
@blueprint.response(200, CallbackSecret)
def callback_secret() -> Any:
    """What callbacks are signed with, for receivers to verify them; for administrators only."""
    return jsonify(secret=services.get().callbacks.secret())
