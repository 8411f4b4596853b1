"""/api/v1/task-types: what can be submitted, and how it is done."""

import inspect
from typing import Any

from flask import jsonify
from marshmallow import fields, validate

from api import services
from api.bodies import Answer, Blueprint
from api.paging import WHOLE, whole
from api.schemas import RetrySchema, json_schema
from jobs import documents
from jobs.errors import NotFound
from jobs.handlers.registry import TaskType
from jobs.pools import MODES
from jobs.priority import QUEUES
from jobs.setting_values import SCOPES

blueprint = Blueprint("task_types", __name__, url_prefix="/api/v1/task-types", description="What can be submitted")

_DEFAULTS = ("timeout_seconds", "max_retries", "retry", "priority", "queue")


class TaskTypeSchema(Answer):
    """A task type, with the defaults of its tasks."""

    name = fields.String()
    description = fields.String()
    mode = fields.String(validate=validate.OneOf(MODES), metadata={"description": "Where its handler runs."})
    needs_prompt = fields.Boolean(metadata={"description": "Whether prompt and model are required."})
    calls_model = fields.Boolean()
    scope = fields.String(validate=validate.OneOf(SCOPES), metadata={"description": "What submitting one needs."})
    model = fields.String(allow_none=True, metadata={"description": "Of tasks that name none."})
    timeout_seconds = fields.Integer()
    max_retries = fields.Integer()
    retry = fields.Nested(RetrySchema)
    priority = fields.Integer()
    queue = fields.String(validate=validate.OneOf(QUEUES))
    retention_days = fields.Integer(metadata={"description": "Days after which ended tasks are removed."})
    input_schema = fields.Raw(metadata={"type": "object", "description": "JSON Schema of the tasks' `input`."})


def shown(kind: TaskType) -> dict[str, Any]:
    """A task type as the API returns it."""
    settings = services.get().settings
    # What a task that says nothing becomes.
    made = documents.document({}, kind, settings, "")
    return {
        "name": kind.name,
        "description": inspect.getdoc(kind.handler) or "",
        "mode": kind.mode,
        "needs_prompt": kind.needs_prompt,
        "calls_model": kind.calls_model,
        "scope": kind.scope,
        "model": made["model"] if kind.calls_model and not kind.needs_prompt else None,
        **{name: made[name] for name in _DEFAULTS},
        "retention_days": settings.task_retention_days if kind.retention_days is None else kind.retention_days,
        "input_schema": json_schema(kind.input_schema()),
    }


@blueprint.get("")
@blueprint.response(200, TaskTypeSchema(many=True), headers=WHOLE)
def list_task_types() -> Any:
    """All task types, by name."""
    return whole([shown(kind) for _, kind in sorted(services.get().task_types.items())])


@blueprint.get("/<name>")
@blueprint.response(200, TaskTypeSchema)
def get_task_type(name: str) -> Any:
    """One task type."""
    kind = services.get().task_types.get(name)
    if kind is None:
        raise NotFound(f"There is no task type {name!r}.")
    return jsonify(shown(kind))
