"""/api/v1/memorize and /api/v1/memories: remember conversations, read what is known of a topic."""

from typing import Any

from flask import g, jsonify
from marshmallow import fields

from api import services
from api.bodies import Answer, Blueprint
from api.paging import Paging, page_of, shown_by, sort_field
from api.tasks import location_of
from jobs.errors import found
from jobs.fields import Text
from jobs.handlers.memory_consolidation import MemoryInput
from jobs.store import listing

blueprint = Blueprint("memories", __name__, url_prefix="/api/v1", description="Remember conversations by topic")


class MemorizedSchema(Answer):
    """What follows."""

    message = fields.String()
    task_id = fields.Integer()


class MemorySchema(Answer):
    """What is known of a topic."""

    id = fields.Integer()
    topic = fields.String()
    summary = fields.String()
    facts = fields.List(fields.String())
    version = fields.Integer(metadata={"description": "How many consolidations made it."})
    task_id = fields.Integer(metadata={"description": "The last of them."})
    created_at = fields.AwareDateTime()
    updated_at = fields.AwareDateTime()


class MemoryQuery(Paging):
    """The query of the list."""

    topic = Text()
    sort = sort_field(listing.MEMORIES)


shown = shown_by(MemorySchema)
"""A memory's row as the API returns it."""


@blueprint.post("/memorize")
@blueprint.arguments(MemoryInput)
@blueprint.response(202, MemorizedSchema)
def memorize(given: dict[str, Any]) -> Any:
    """Consolidate a conversation into the memory of its topic: submits a `memory_consolidation` task."""
    submitted = services.get().submitter.task(
        {"task_type": "memory_consolidation", "input": given}, caller=g.caller, request_id=g.request_id
    )
    task_id = submitted.row["id"]
    body = {"message": "The conversation will be remembered.", "task_id": task_id}
    return jsonify(body), 202, {"Location": location_of(task_id)}


@blueprint.get("/memories")
@blueprint.arguments(MemoryQuery, location="query", unknown="raise")
@blueprint.response(200, MemorySchema(many=True))
def list_memories(query: dict[str, Any]) -> Any:
    """Memories, newest first."""
    return page_of(listing.MEMORIES, query, shown)


@blueprint.get("/memories/<id:memory_id>")
@blueprint.response(200, MemorySchema)
def get_memory(memory_id: int) -> Any:
    """One memory."""
    return jsonify(shown(found(services.get().database.one("get_memory", {"id": memory_id}), "memory", memory_id)))
