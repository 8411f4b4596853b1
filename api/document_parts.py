"""The reusable parts of the OpenAPI document: errors, headers, links, and rules between a schema's fields."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from jobs.fields import STORABLE


@dataclass(frozen=True, slots=True)
class Error:
    """An error that many operations may answer; `headers` come with it, besides those of all answers."""

    name: str
    description: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Link:
    """What can be done next with an answer: `operation`, its `parameter` taken from `pointer` in the answer's body."""

    operation: str
    parameter: str
    pointer: str = "/id"

    def as_json(self) -> dict[str, Any]:
        """As OpenAPI has it."""
        return {"operationId": self.operation, "parameters": {self.parameter: f"$response.body#{self.pointer}"}}


def _links(parameter: str, *operations: str, pointer: str = "/id") -> tuple[Link, ...]:
    return tuple(Link(operation, parameter, pointer) for operation in operations)


def _header(description: str, example: Any, **schema: Any) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string", **schema}, "example": example}


_WAIT: Final = {"Retry-After": "RetryAfter"}
ERRORS: Final = {
    HTTPStatus.BAD_REQUEST: Error("NotJson", "The body is not valid JSON, or sent as something else"),
    HTTPStatus.UNAUTHORIZED: Error("NoKey", "No valid API key was sent", {"WWW-Authenticate": "Challenge"}),
    HTTPStatus.FORBIDDEN: Error("NotAllowed", "The scope of the API key is too small, or a page of another site asks"),
    HTTPStatus.NOT_FOUND: Error("NotFound", "There is none"),
    HTTPStatus.METHOD_NOT_ALLOWED: Error("OtherMethods", "This path has other methods only", {"Allow": "Allow"}),
    HTTPStatus.REQUEST_TIMEOUT: Error("TooSlow", "The request did not arrive in time"),
    HTTPStatus.REQUEST_URI_TOO_LONG: Error("LongUrl", "The URL is longer than 8 kB"),
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: Error("LongHeaders", "A header is over 8 kB, or there are over 100"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Error("TooLarge", "The body is longer than 10 MB, or that of a batch than 64"),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: Error("Packed", "The body is sent with a Content-Encoding"),
    HTTPStatus.UNPROCESSABLE_ENTITY: Error("DoesNotFit", "The request does not fit; `errors` says where"),
    HTTPStatus.TOO_MANY_REQUESTS: Error("TooMany", "The caller has sent too many requests", _WAIT),
    HTTPStatus.SERVICE_UNAVAILABLE: Error("Unavailable", "Not now, but try again soon", _WAIT),
}  # fmt: skip

HEADERS: Final = {
    "RequestId": {
        **_header("The id of the request, also in the logs: the caller's own, when it sent one.", "5c9f2e64"),
        "required": True,
    },
    "Location": {**_header("Where what was made, or the task that makes it, is.", "/api/v1/tasks/1"), "required": True},
    "Allow": {**_header("The methods that the path has.", "GET, HEAD, OPTIONS"), "required": True},
    "Challenge": {**_header("How to send a key.", 'Bearer realm="Pressroom"'), "required": True},
    "RetryAfter": _header("Seconds to wait.", "2", pattern="^[0-9]+$"),
    "RateLimit": _header("What is left to the caller: requests, and seconds until it has more.", '"default";r=599;t=1'),
    "RateLimitPolicy": _header("How many requests in how many seconds.", '"default";q=600;w=60'),
    "IdempotentReplayed": _header("This is what an earlier request with the same key has made.", "true", const="true"),
    "TotalCount": {
        "description": "How many there are on all pages.",
        "schema": {"type": "integer", "minimum": 0},
        "required": True,
        "example": 120,
    },
    "TotalCountExact": {
        **_header("Whether that is counted, not estimated.", "true", enum=["true", "false"]),
        "required": True,
    },
    "Link": _header(
        "The first, previous and next page, where there are such (RFC 8288).",
        '<http://127.0.0.1:8000/api/v1/tasks?cursor=WyItaWQi>; rel="next"',
    ),
}  # fmt: skip

PARAMETERS: Final = {
    "RequestId": {
        "name": "X-Request-ID",
        "in": "header",
        "description": "An id of your own for this request: up to 128 visible ASCII characters. Others are ignored.",
        "schema": {"type": "string"},
    }
}

SECURITY: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer <key>`"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key."},
    "basic": {"type": "http", "scheme": "basic", "description": "The key's name and the key."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "pressroom",
        "description": "What /login gives a browser for a key (over TLS named `__Host-pressroom`).",
    },
}

LINKS: Final = {
    "Task": _links("task_id", "get_task", "task_events", "cancel_task", "retry_task", "task_profile"),
    "DayTask": _links("task_id", "get_task", "task_events", "cancel_task"),
    "Memorized": _links("task_id", "get_task", "task_events", "cancel_task", pointer="/task_id"),
    "Batch": _links("batch_id", "get_batch", "batch_events", "cancel_batch", "retry_batch", "list_tasks"),
    "Account": _links(
        "account_id", "get_account", "replace_account", "change_account", "delete_account", "list_contents"
    ),
    "Content": _links(
        "content_id", "get_content", "content_edits", "edit_content", "approve_content", "reject_content"
    ),
    "Schedule": _links(
        "schedule_id", "get_schedule", "replace_schedule", "change_schedule", "delete_schedule", "pause_schedule",
        "resume_schedule", "trigger_schedule", "preview_schedule", "list_executions",
    ),
    "Execution": (Link("get_execution", "execution_id"), Link("get_schedule", "schedule_id", "/schedule_id")),
    "Callback": _links("callback_id", "get_callback", "replay_callback"),
    "CallbackWithAttempts": _links("callback_id", "replay_callback"),
    "Rejected": _links("content_id", "get_content", "content_edits", "edit_content", "approve_content"),
    "Memory": _links("memory_id", "get_memory"),
}  # fmt: skip
"""By the schema of the answer."""

_TIMINGS: Final = [
    {
        "title": "By cron",
        "required": ["cron_expression"],
        "properties": {
            "cron_expression": {"type": "string"},
            "interval": {"type": "null"},
            "interval_unit": {"type": "null"},
        },
    },
    {
        "title": "By interval",
        "required": ["interval", "interval_unit"],
        "properties": {
            "cron_expression": {"type": "null"},
            "interval": {"type": "integer"},
            "interval_unit": {"type": "string"},
        },
    },
]
RULES: Final[dict[str, dict[str, Any]]] = {
    "AccountChange": {"minProperties": 1},
    "ContentChange": {"minProperties": 1},
    "ScheduleFields": {"minProperties": 1},
    "NewTask": {"not": {"required": ["run_at", "delay_seconds"]}},
    "NewSchedule": {"oneOf": _TIMINGS},
    "Retry": {
        "oneOf": [
            {"properties": {"strategy": {"const": "custom"}}, "required": ["strategy", "delays"]},
            {
                "properties": {"strategy": {"enum": ["exponential", "linear", "fixed"]}},
                "not": {"required": ["delays"]},
            },
        ]
    },
}
"""What marshmallow checks on a whole, by the schema."""

JSON: Final[dict[str, Any]] = {
    "description": "Any JSON without NUL characters, nested up to 32 levels.",
    "anyOf": [
        {"type": ["null", "boolean", "number"]},
        {"type": "string", "pattern": STORABLE},
        {"type": "array", "items": {"$ref": "#/components/schemas/Json"}},
        {"$ref": "#/components/schemas/JsonObject"},
    ],
}
JSON_OBJECT: Final[dict[str, Any]] = {
    "type": "object",
    "propertyNames": {"pattern": STORABLE},
    "additionalProperties": {"$ref": "#/components/schemas/Json"},
}
