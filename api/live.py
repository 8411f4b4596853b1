"""Events of tasks and batches: as JSON, or as they happen.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from flask import Response, jsonify, request
from marshmallow import Schema, fields, validate

from api import auth, services
from api.bodies import Blueprint
from api.document_parts import HEADERS
from api.errors import abort
from api.paging import WHOLE, whole
from api.schemas import BatchSchema, TaskEventSchema
from api.topics import BatchWatcher, Place, TaskWatcher, Topic, Watcher
from api.watching import TooManyWatchers
from jobs.fields import QueryInteger

blueprint = Blueprint("live", __name__, url_prefix="/api/v1", description="Watch tasks and batches while they move")

T = TypeVar("T", bound=Topic)

_STREAM: Final = "text/event-stream"
_HEARTBEAT_SECONDS: Final = 5.0
"""How often, at least, something is sent, and it is asked whether the watcher's key or session has ended."""

_RETRY_SECONDS: Final = "2"
_HELLO: Final = f"retry: {_RETRY_SECONDS}000\n\n".encode()
_HEARTBEAT: Final = b": still here\n\n"
_UNSENT_MILLISECONDS: Final = 20_000
"""How long a client may take nothing before it counts as gone; less than the grace period."""

_COUNTS: Final = {name: {**HEADERS[part], "required": False} for name, part in WHOLE.items()}  # streams have none
_TASK_STREAM = """With `Accept: text/event-stream`, events until the task ends:

- `state`: an entry of the log, as in the JSON answer;
- `progress`: `{"percent", "message"}` of the running attempt;
- `text`: `{"offset", "text"}`, a piece of the text that the running attempt generates, for tasks submitted with
  `stream`. Offsets count characters; a new attempt begins anew at 0;
- `end`: `{"status"}`, then the stream is closed. One that is closed without it is to be asked for again.

A comment comes every 5 seconds in which nothing happens. The end of the key, or of the session, ends the stream within
10 seconds. `Last-Event-ID` goes on after the event of that id; one that is not understood begins at the beginning."""
_BATCH_STREAM = """With `Accept: text/event-stream`, events until every task has ended:

- `batch`: the batch as it is now, at most twice a second;
- `end`: `{"status"}`, then the stream is closed. One that is closed without it is to be asked for again.

A comment comes every 5 seconds in which nothing happens. The end of the key, or of the session, ends the stream within
10 seconds."""


class AfterQuery(Schema):
    """Where to go on."""

    after = QueryInteger(
        load_default=0, validate=validate.Range(0, 2**63 - 1), metadata={"description": "Only events behind this id."}
    )


class LastEventHeader(Schema):
    """Where a stream that was cut goes on."""

    last_event_id = fields.String(
        data_key="Last-Event-ID", metadata={"description": "The `id` of the last event that was received."}
    )


def _streamed(example: str) -> dict[int, Any]:
    return {200: {"content": {_STREAM: {"schema": {"type": "string"}, "example": example}}}}


@blueprint.get("/tasks/<id:task_id>/events")
@blueprint.arguments(AfterQuery, location="query", unknown="raise")
@blueprint.arguments(LastEventHeader, location="headers")
@blueprint.response(200, TaskEventSchema(many=True), headers=_COUNTS)
@blueprint.alt_response(503, description="Too many watch already; try again after Retry-After seconds")
@blueprint.doc(
    description=_TASK_STREAM,
    responses=_streamed(
        'id: 7\nevent: state\ndata: {"id":7,"from_status":"PENDING","to_status":"PROCESSING",...}\n\n'
        'id: 7-5\nevent: text\ndata: {"offset":0,"text":"Hello"}\n\n'
        'event: end\ndata: {"status":"COMPLETED"}\n\n'
    ),
)
def task_events(query: dict[str, Any], headers: dict[str, Any], task_id: int) -> Any:
    """A task's event log, oldest first, or live."""
    tools = services.get()
    if not _wants_stream():
        return whole(tools.manager.events(task_id, query["after"]))
    tools.manager.get(task_id)
    place = Place.parse(headers["last_event_id"]) if "last_event_id" in headers else Place(query["after"])
    topic = _joined(tools.hub.task, task_id)
    return _stream(topic, TaskWatcher(topic, place))


@blueprint.get("/batches/<id:batch_id>/events")
@blueprint.response(200, BatchSchema)
@blueprint.alt_response(503, description="Too many watch already; try again after Retry-After seconds")
@blueprint.doc(
    description=_BATCH_STREAM,
    responses=_streamed('event: batch\ndata: {"id":3,"status":"PROCESSING","progress":40,...}\n\n'),
)
def batch_events(batch_id: int) -> Any:
    """A batch as it is, or live."""
    tools = services.get()
    batch = tools.manager.batch(batch_id)
    if not _wants_stream():
        return jsonify(batch)
    topic = _joined(tools.hub.batch, batch_id)
    return _stream(topic, BatchWatcher(topic))


def _wants_stream() -> bool:
    return request.accept_mimetypes.best_match(["application/json", _STREAM]) == _STREAM


def _joined(join: Callable[[int], T], number: int) -> T:
    """What is watched from now on; `_stream` leaves it."""
    _notice_when_gone(request.environ.get("gunicorn.socket"))
    try:
        return join(number)
    except TooManyWatchers:
        abort(503, message="Too many watch here already.", headers={"Retry-After": _RETRY_SECONDS})


def _stream(topic: Topic, watcher: Watcher) -> Response:
    """An answer that begins at once and goes on as the topic does."""
    hub = services.get().hub
    response = Response(_events(topic, watcher, auth.admission()), mimetype=_STREAM)
    response.headers["X-Accel-Buffering"] = "no"  # or nginx would keep events back
    # Also when it was never begun, as for HEAD.
    response.call_on_close(lambda: hub.leave(topic))
    return response


def _events(topic: Topic, watcher: Watcher, is_admitted: Callable[[], bool]) -> Iterator[bytes]:
    yield _HELLO
    version, due = 0, time.monotonic() + _HEARTBEAT_SECONDS
    while not (topic.is_closed or watcher.is_done):
        version = topic.wait(version, due - time.monotonic())
        if time.monotonic() >= due:
            if not is_admitted():
                return
            due = time.monotonic() + _HEARTBEAT_SECONDS
        yield watcher.news() or _HEARTBEAT


def _notice_when_gone(connection: socket.socket | None) -> None:
    """Have writing fail soon after the client vanished, or takes nothing any more; where the system can do that."""
    if connection and hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNSENT_MILLISECONDS)
