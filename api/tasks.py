"""/api/v1/tasks and /api/v1/batches."""

import re
from typing import Any

from flask import Response, g, jsonify, request, url_for

from api import auth, services
from api.at_hand import the_request
from api.bodies import Blueprint
from api.errors import abort
from api.headers import nonce
from api.paging import page_of
from api.schemas import (
    BatchSchema,
    IdempotencyHeader,
    NewBatch,
    NewTask,
    TaskQuery,
    TaskSchema,
)
from jobs.errors import UnknownParents
from jobs.shapes import shown_task
from jobs.store import listing
from jobs.submit import Idempotency, Submitted

blueprint = Blueprint("tasks", __name__, url_prefix="/api/v1", description="Submit tasks and see what became of them")

_REPLAYED = {"Idempotent-Replayed": "true"}
# pyinstrument's page carries its scripts and styles, which get a nonce, and its script writes style attributes. It
# may show itself and load nothing.
_PROFILE_POLICY = (
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}' data:; style-src-attr 'unsafe-inline'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_INLINE = re.compile(r"<(script|style)>")


def _idempotency(headers: dict[str, Any]) -> Idempotency | None:
    key = headers.get("idempotency_key")
    # Of this caller: another's answers are not found by guessing.
    # The body was read as JSON already, also where no content type says so.
    return Idempotency.of(f"{g.caller} {key}", request.path, request.get_json(force=True)) if key else None


def _allow(tasks: list[dict[str, Any]]) -> None:
    """Refuse tasks of types that are not for this caller."""
    types = services.get().task_types
    for name in {task["task_type"] for task in tasks}:
        auth.require(types[name].scope)


def _allow_existing(task_id: int) -> None:
    """The same for a task that is there; types that are no longer known are for all."""
    if kind := services.get().task_types.get(services.get().manager.get(task_id)["task_type"]):
        auth.require(kind.scope)


def _allow_batch(batch_id: int) -> None:
    types = services.get().task_types
    for row in services.get().database.all("batch_task_types", {"id": batch_id}):
        if kind := types.get(row["task_type"]):
            auth.require(kind.scope)


def location_of(task_id: int) -> str:
    """A task's address, as `url_for` has it, which asks the router."""
    return f"{the_request().root_path}{blueprint.url_prefix}/tasks/{task_id}"


def _created(body: dict[str, Any], submitted: Submitted, location: str) -> tuple[Response, int, dict[str, str]]:
    headers = {"Location": location}
    if submitted.replayed:
        return jsonify(body), 200, headers | _REPLAYED
    if submitted.existing:
        return jsonify(body), 200, headers
    return jsonify(body), 201, headers


@blueprint.post("/tasks")
@blueprint.arguments(NewTask)
@blueprint.arguments(IdempotencyHeader, location="headers")
@blueprint.response(201, TaskSchema)
@blueprint.alt_response(200, schema=TaskSchema, description="Idempotency-Key or unique_key again", success=True)
def create_task(wanted: dict[str, Any], headers: dict[str, Any]) -> Any:
    """Submit one task. 201 means that it is committed."""
    _allow([wanted])
    submitted = services.get().submitter.task(
        wanted, caller=g.caller, request_id=g.request_id, idempotency=_idempotency(headers)
    )
    return _created(shown_task(submitted.row), submitted, location_of(submitted.row["id"]))


@blueprint.get("/tasks")
@blueprint.arguments(TaskQuery, location="query", unknown="raise")
@blueprint.response(200, TaskSchema(many=True))
def list_tasks(query: dict[str, Any]) -> Any:
    """Tasks, newest first, a page at a time.

    Up to 10,000, X-Total-Count is exact; beyond, it is what PostgreSQL last estimated (X-Total-Count-Exact: false). Far
    pages are found as fast as the first one by the cursor in Link, but `skip` reads all that it skips.
    """
    return page_of(listing.TASKS, query, shown_task)


@blueprint.get("/tasks/<id:task_id>")
@blueprint.response(200, TaskSchema)
def get_task(task_id: int) -> Any:
    """One task."""
    return jsonify(shown_task(services.get().manager.get(task_id)))


@blueprint.post("/tasks/<id:task_id>/cancel")
@blueprint.response(200, TaskSchema)
@blueprint.alt_response(409, description="It has ended already")
def cancel_task(task_id: int) -> Any:
    """Cancel a task: at once when it waits, within two seconds when it runs."""
    _allow_existing(task_id)
    return jsonify(shown_task(services.get().manager.cancel(task_id)))


@blueprint.post("/tasks/<id:task_id>/retry")
@blueprint.response(200, TaskSchema)
@blueprint.alt_response(409, description="It has neither failed nor been cancelled")
def retry_task(task_id: int) -> Any:
    """Run a failed or cancelled task again."""
    _allow_existing(task_id)
    return jsonify(shown_task(services.get().manager.retry(task_id)))


@blueprint.post("/tasks/batch")
@blueprint.arguments(NewBatch)
@blueprint.arguments(IdempotencyHeader, location="headers")
@blueprint.response(201, BatchSchema)
@blueprint.alt_response(200, schema=BatchSchema, description="Repeated with the same Idempotency-Key", success=True)
def create_batch(wanted: dict[str, Any], headers: dict[str, Any]) -> Any:
    """Submit up to 10,000 tasks together, all or none."""
    tools = services.get()
    _allow(wanted["tasks"])
    try:
        submitted = tools.submitter.batch(
            wanted["tasks"],
            callback_url=wanted.get("callback_url"),
            caller=g.caller,
            request_id=g.request_id,
            idempotency=_idempotency(headers),
        )
    except UnknownParents as error:
        unknown, said = set(error.ids), {"depends_on": [str(error)]}
        places = (place for place, task in enumerate(wanted["tasks"]) if unknown & set(task.get("depends_on", ())))
        abort(422, errors={"json": {"tasks": dict.fromkeys(places, said)}})
    batch_id = submitted.row["id"]
    batch = tools.manager.batch(batch_id)
    return _created(batch, submitted, url_for("tasks.get_batch", batch_id=batch_id))


@blueprint.get("/batches/<id:batch_id>")
@blueprint.response(200, BatchSchema)
def get_batch(batch_id: int) -> Any:
    """A batch: counts by state, percent done, errors."""
    return jsonify(services.get().manager.batch(batch_id))


@blueprint.post("/batches/<id:batch_id>/cancel")
@blueprint.response(200, BatchSchema)
@blueprint.alt_response(409, description="It has ended already")
def cancel_batch(batch_id: int) -> Any:
    """Cancel whatever of a batch has not ended."""
    _allow_batch(batch_id)
    return jsonify(services.get().manager.cancel_batch(batch_id))


@blueprint.post("/batches/<id:batch_id>/retry")
@blueprint.response(200, BatchSchema)
@blueprint.alt_response(409, description="Nothing of it has failed")
def retry_batch(batch_id: int) -> Any:
    """Run what failed of a batch again."""
    _allow_batch(batch_id)
    return jsonify(services.get().manager.retry_batch(batch_id))


@blueprint.get("/tasks/<id:task_id>/profile")
@blueprint.response(200, {"type": "string"}, content_type="text/html", example="<!doctype html>...")
@blueprint.alt_response(303, description="A browser without a session is sent to /login")
def task_profile(task_id: int) -> Any:
    """Where the last attempt spent its time, as a page, for tasks submitted with `profile`."""
    page = services.get().manager.profile(task_id)
    page = _INLINE.sub(rf'<\1 nonce="{nonce()}">', page)
    policy = {"Content-Security-Policy": _PROFILE_POLICY.format(nonce())}
    return Response(page, content_type="text/html; charset=utf-8", headers=policy)
