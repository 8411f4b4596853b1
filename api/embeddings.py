"""/api/v1/embeddings: search by similarity what tasks of the type `embedding` stored."""

import math
from http import HTTPStatus
from typing import Any, NoReturn

from flask import jsonify
from marshmallow import Schema, fields, validate

from api import services
from api.bodies import Answer, Blueprint
from api.errors import abort
from jobs.errors import AttemptError, TaskError
from jobs.fields import QueryInteger, Text, not_blank
from jobs.handlers.embedding import COLLECTION_CHARS, MAX_DIMENSIONS

blueprint = Blueprint(
    "embeddings", __name__, url_prefix="/api/v1/embeddings", description="Search stored texts by similarity"
)

_QUERY_CHARS = 8000  # a URL has no room for more
_STATUS = {
    "pgvector_missing": HTTPStatus.SERVICE_UNAVAILABLE,
    "rate_limited": HTTPStatus.SERVICE_UNAVAILABLE,
    "searches_busy": HTTPStatus.SERVICE_UNAVAILABLE,
    "timeout": HTTPStatus.GATEWAY_TIMEOUT,
}


class SearchQuery(Schema):
    """What to look for, and where."""

    q = Text(
        required=True,
        validate=[validate.Length(1, _QUERY_CHARS), not_blank],
        metadata={"description": "Texts that are near to this one are found."},
    )
    collection = Text(load_default="default", validate=validate.Length(1, COLLECTION_CHARS))
    model = Text(
        load_default=None,
        validate=validate.Length(1, 200),
        metadata={"description": "As in the tasks that stored the texts; else EMBEDDING_MODEL."},
    )
    dimensions = QueryInteger(
        load_default=None,
        validate=validate.Range(1, MAX_DIMENSIONS),
        metadata={"description": "As in the tasks that stored the texts."},
    )
    limit = QueryInteger(load_default=10, validate=validate.Range(1, 100))


class FoundText(Answer):
    """A text that was found."""

    id = fields.String(metadata={"description": "The caller's, or a hash of the text."})
    text = fields.String()
    collection = fields.String()
    metadata = fields.Raw(metadata={"type": "object"})
    score = fields.Float(metadata={"description": "Cosine similarity: 1 is the same direction."})
    task_id = fields.Integer(metadata={"description": "The task that stored it."})


class CollectionQuery(Schema):
    """Which collection to remove."""

    collection = Text(required=True, validate=validate.Length(1, COLLECTION_CHARS))


class RemovedSchema(Answer):
    """What was removed."""

    collection = fields.String()
    removed = fields.Integer(metadata={"description": "How many texts."})


def _refuse(error: TaskError) -> NoReturn:
    if error.code == "unknown_model":
        abort(422, errors={"query": {"model": [error.message]}})
    headers = {"Retry-After": str(math.ceil(error.retry_after))} if error.retry_after is not None else {}
    abort(_STATUS.get(error.code, HTTPStatus.BAD_GATEWAY), message=error.message, headers=headers)


@blueprint.get("/search")
@blueprint.arguments(SearchQuery, location="query", unknown="raise")
@blueprint.response(200, FoundText(many=True))
@blueprint.alt_response(502, description="The model endpoint failed")
@blueprint.alt_response(503, description="It is busy, too many searches wait for it, or the database has no pgvector")
@blueprint.alt_response(504, description="The model did not answer within 10 seconds")
def search(query: dict[str, Any]) -> Any:
    """The texts of a collection nearest to `q`, nearest first. Calls the model once."""
    embeddings = services.get().embeddings
    try:
        rows, searched = embeddings.search(query.pop("q"), **query)
    except AttemptError as failure:
        _refuse(failure.error)
    if not rows and (held := embeddings.any_of(query["collection"])):
        said = "The collection has vectors of {model} with {dimensions} dimensions".format(**held)
        field = "model" if held["model"] != searched["model"] else "dimensions"
        abort(422, errors={"query": {field: [said + ", none of {model} with {dimensions}.".format(**searched)]}})
    return jsonify(rows)


@blueprint.delete("")
@blueprint.arguments(CollectionQuery, location="query", unknown="raise")
@blueprint.response(200, RemovedSchema)
@blueprint.alt_response(503, description="The database has no pgvector")
def remove_collection(query: dict[str, Any]) -> Any:
    """Remove a collection."""
    try:
        removed = services.get().embeddings.remove(query["collection"])
    except AttemptError as failure:
        _refuse(failure.error)
    return jsonify({**query, "removed": removed})
