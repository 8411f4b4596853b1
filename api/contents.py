"""/api/v1/contents: what was produced, and its review."""

from typing import Any

from flask import g, jsonify
from marshmallow import Schema, fields, validate

from api import services
from api.bodies import Answer, Blueprint, Change
from api.paging import WHOLE, Paging, page_of, shown_by, sort_field, whole
from api.schemas import POSITIVE_ID, TaskSchema
from jobs.fields import QueryInteger, StrictBoolean, Text, not_blank
from jobs.shapes import shown_task
from jobs.store import listing

blueprint = Blueprint("contents", __name__, url_prefix="/api/v1/contents", description="Read, edit and review pieces")

STATUSES = ("PENDING_REVIEW", "APPROVED", "REJECTED")


class ContentSchema(Answer):
    """A content as returned."""

    id = fields.Integer()
    account_id = fields.Integer()
    task_id = fields.Integer()
    title = fields.String()
    body = fields.String()
    summary = fields.String()
    category = fields.String(allow_none=True)
    topic = fields.String(allow_none=True)
    review_status = fields.String(validate=validate.OneOf(STATUSES))
    review_reason = fields.String(allow_none=True)
    reviewed_by = fields.String(allow_none=True)
    reviewed_at = fields.AwareDateTime(allow_none=True)
    created_at = fields.AwareDateTime()
    updated_at = fields.AwareDateTime()


class Rejection(Schema):
    """Why a content is rejected."""

    reason = Text(required=True, validate=[validate.Length(1, 10_000), not_blank])
    regenerate = StrictBoolean(
        load_default=False,
        metadata={"description": "Try again: a new task whose prompt carries the reason."},
    )


class RejectedSchema(ContentSchema):
    """A rejected content, with the task that tries again."""

    regeneration_task = fields.Nested(TaskSchema, allow_none=True)


class ContentChange(Change):
    """What may be edited."""

    title = Text(validate=validate.Length(1, 1000))
    body = Text(validate=validate.Length(1, 1_000_000))
    summary = Text(validate=validate.Length(max=10_000))
    category = Text(allow_none=True, validate=validate.Length(1, 500))
    topic = Text(allow_none=True, validate=validate.Length(1, 500))


class EditSchema(Answer):
    """One edit: who changed what, and how it was before."""

    id = fields.Integer()
    at = fields.AwareDateTime()
    who = fields.String()
    before = fields.Raw(metadata={"type": "object"})
    after = fields.Raw(metadata={"type": "object"})


class ContentQuery(Paging):
    """The query of the list."""

    account_id = QueryInteger(validate=POSITIVE_ID)
    review_status = fields.String(validate=validate.OneOf(STATUSES))
    task_id = QueryInteger(validate=POSITIVE_ID)
    category = Text()
    sort = sort_field(listing.CONTENTS)


shown = shown_by(ContentSchema)
"""A content's row as the API returns it."""


@blueprint.get("")
@blueprint.arguments(ContentQuery, location="query", unknown="raise")
@blueprint.response(200, ContentSchema(many=True))
def list_contents(query: dict[str, Any]) -> Any:
    """Contents, newest first."""
    return page_of(listing.CONTENTS, query, shown)


@blueprint.get("/<id:content_id>")
@blueprint.response(200, ContentSchema)
def get_content(content_id: int) -> Any:
    """One content."""
    return jsonify(shown(services.get().contents.get(content_id)))


@blueprint.get("/<id:content_id>/edits")
@blueprint.response(200, EditSchema(many=True), headers=WHOLE)
def content_edits(content_id: int) -> Any:
    """Its edits, oldest first."""
    return whole(services.get().contents.edits(content_id))


@blueprint.patch("/<id:content_id>")
@blueprint.arguments(ContentChange)
@blueprint.response(200, ContentSchema)
def edit_content(change: dict[str, Any], content_id: int) -> Any:
    """Edit a content; the history keeps what it was."""
    return jsonify(shown(services.get().contents.edit(content_id, change, g.caller)))


@blueprint.post("/<id:content_id>/approve")
@blueprint.response(200, ContentSchema)
@blueprint.alt_response(409, description="It is approved already")
def approve_content(content_id: int) -> Any:
    """Approve a content that waits, or that was rejected."""
    return jsonify(shown(services.get().contents.approve(content_id, g.caller)))


@blueprint.post("/<id:content_id>/reject")
@blueprint.arguments(Rejection)
@blueprint.response(200, RejectedSchema)
@blueprint.alt_response(409, description="It is rejected already")
def reject_content(rejection: dict[str, Any], content_id: int) -> Any:
    """Reject a content with a reason; with `regenerate`, a new task tries to do better."""
    row, task = services.get().contents.reject(content_id, rejection["reason"], g.caller, rejection["regenerate"])
    return jsonify({**shown(row), "regeneration_task": shown_task(task) if task else None})
