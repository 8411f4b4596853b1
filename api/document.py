"""The OpenAPI document: what is the same for every operation is said here, once.

Views say what is their own: bodies, queries, successes, and errors with a meaning of their own (409, 502...). From
these, `Completion` adds what follows: operation ids, the errors that the way of the request implies, headers, examples
(`examples.json`, by the name of the schema) and links. A new route needs nothing but its schemas, and their examples.
"""

from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import orjson
from apispec import APISpec, BasePlugin
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema

from api.auth import OPEN, scope_for
from api.document_parts import (
    ERRORS,
    HEADERS,
    JSON,
    JSON_OBJECT,
    LINKS,
    PARAMETERS,
    RULES,
    SECURITY,
)
from api.limits import EXEMPT
from api.paging import WHOLE
from api.shapes import describe
from jobs.handlers.registry import TaskType
from scheduler.executors import EXECUTORS

_JSON: Final = "application/json"
_DEFAULT_TYPE: Final = "text_generation"
_EXAMPLES: Final = orjson.loads(Path(__file__).with_name("examples.json").read_bytes())


class Completion(BasePlugin):
    """Completes each operation, after flask-smorest and marshmallow have said theirs."""

    def init_spec(self, spec: APISpec) -> None:
        """Register the reusable parts."""
        describe(_converter_of(spec), JSON_OBJECT)
        for name, header in HEADERS.items():
            spec.components.header(name, header)
        for name, parameter in PARAMETERS.items():
            spec.components.parameter(name, parameter["in"], parameter)
        for name, scheme in SECURITY.items():
            spec.components.security_scheme(name, scheme)
        for schema, links in LINKS.items():
            for link in links:
                spec.components.link(f"{schema}.{link.operation}", link.as_json())
        spec.components.schemas |= {"Json": JSON, "JsonObject": JSON_OBJECT}
        for status, error in ERRORS.items():
            headers = {"X-Request-ID": "RequestId", **error.headers}
            spec.components.response(error.name, {**_refusal(status, error.description), "headers": headers})

    def operation_helper(self, operations: dict[str, Any], rule: Any, **_: Any) -> None:
        """Complete the operations of one path."""
        for method, operation in operations.items():
            self._complete(method, operation, rule)

    def _complete(self, method: str, operation: dict[str, Any], rule: Any) -> None:
        operation.setdefault("operationId", rule.endpoint.rpartition(".")[2])
        scope = scope_for(method.upper(), rule.endpoint, rule.rule)
        operation["security"] = [] if rule.endpoint in OPEN else [{scheme: [scope]} for scheme in SECURITY]
        responses = {int(code): answer for code, answer in operation.get("responses", {}).items() if code != 422}
        for code, answer in responses.items():
            if code >= HTTPStatus.BAD_REQUEST and "content" not in answer:
                answer |= _refusal(HTTPStatus(code), answer["description"])
            else:
                self._complete_success(code, answer, operation)
            usual = ERRORS[HTTPStatus(code)].headers if HTTPStatus(code) in ERRORS else {}
            answer["headers"] = {**_headers(rule.endpoint), **usual, **answer.get("headers", {})}
        for status in _implied(operation, rule):
            responses.setdefault(status.value, ERRORS[status].name)
        operation["responses"] = dict(sorted(responses.items()))
        parameters = operation.setdefault("parameters", [])
        parameters.append("RequestId")
        if body := operation.get("requestBody"):
            _exemplify(body)

    def _complete_success(self, code: int, answer: dict[str, Any], operation: Mapping[str, Any]) -> None:
        taken = {parameter["name"] for parameter in operation.get("parameters", ())}
        headers: dict[str, Any] = answer.setdefault("headers", {})
        if code in (HTTPStatus.CREATED, HTTPStatus.ACCEPTED, HTTPStatus.SEE_OTHER):
            headers["Location"] = "Location"
        if code == HTTPStatus.OK and "Idempotency-Key" in taken:
            headers["Idempotent-Replayed"] = "IdempotentReplayed"
        if "cursor" in taken:
            headers |= {**WHOLE, "Link": "Link"}
        _exemplify(answer)
        name, is_list = _schema_of(answer)
        if links := LINKS.get(name, ()) if not is_list else ():
            answer["links"] = {link.operation: f"{name}.{link.operation}" for link in links}


def _headers(endpoint: str) -> dict[str, str]:
    """What every answer of a view carries."""
    limits = {} if endpoint in EXEMPT else {"RateLimit": "RateLimit", "RateLimit-Policy": "RateLimitPolicy"}
    return {"X-Request-ID": "RequestId", **limits}


def _implied(operation: Mapping[str, Any], rule: Any) -> Iterator[HTTPStatus]:
    """The errors that follow from how the operation is asked for."""
    yield HTTPStatus.METHOD_NOT_ALLOWED
    yield HTTPStatus.REQUEST_URI_TOO_LONG
    yield HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    if rule.endpoint not in OPEN:
        yield from (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
    if rule.endpoint not in EXEMPT:
        yield from (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
    if rule.arguments:
        yield HTTPStatus.NOT_FOUND
    if "requestBody" in operation:
        yield from (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_TIMEOUT)
        yield from (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    if "requestBody" in operation or operation.get("parameters"):
        yield HTTPStatus.UNPROCESSABLE_ENTITY


def _refusal(status: HTTPStatus, description: str) -> dict[str, Any]:
    message = {"code": status.value, "status": status.phrase, "message": f"{description}."}
    example = {**message, **_EXAMPLES["errors"]} if status == HTTPStatus.UNPROCESSABLE_ENTITY else message
    content = {_JSON: {"schema": {"$ref": "#/components/schemas/Error"}, "example": example}}
    return {"description": description, "content": content}


def _schema_of(message: Mapping[str, Any]) -> tuple[str, bool]:
    """The name of the schema of a JSON body, empty when there is none, and whether it is a list of these."""
    shape = message.get("content", {}).get(_JSON, {}).get("schema", {})
    is_list = shape.get("type") == "array"
    reference = (shape["items"] if is_list else shape).get("$ref", "")
    return reference.rpartition("/")[2], is_list


def _exemplify(message: dict[str, Any]) -> None:
    name, is_list = _schema_of(message)
    if name in _EXAMPLES:
        message["content"][_JSON].setdefault("example", [_EXAMPLES[name]] if is_list else _EXAMPLES[name])


def finish(spec: APISpec, types: Mapping[str, TaskType], prompt_max_chars: int) -> None:
    """Add what is known when all operations are: rules between fields, and the inputs of task types and executors."""
    resolve = _converter_of(spec).resolve_nested_schema
    shapes = spec.components.schemas
    executors = {name: executor.params_schema(types) for name, executor in sorted(EXECUTORS.items())}
    inputs = {name: kind.input_schema() for name, kind in sorted(types.items())}
    prompted = {name for name, kind in types.items() if kind.needs_prompt}
    shapes["NewSchedule"]["allOf"] = [
        {"oneOf": [_variant(name, "params", resolve(schema), schema) for name, schema in executors.items()]}
    ]
    shapes["ScheduleFields"]["properties"]["task_type"]["enum"] = list(executors)
    for shape, with_prompt in {"NewTask": ["prompt", "model"], "SubmitTaskParams": ["prompt"]}.items():
        shapes[shape]["oneOf"] = [
            _variant(name, "input", resolve(schema), schema, with_prompt if name in prompted else [])
            for name, schema in inputs.items()
        ]
    shapes["NewTask"]["properties"]["prompt"]["maxLength"] = prompt_max_chars
    for name, rule in RULES.items():
        shapes[name] |= rule


def _variant(name: str, field: str, shape: dict[str, Any], schema: Schema, also: Sequence[str] = ()) -> dict[str, Any]:
    """A task or schedule of one type, as one of the shapes that a body may have."""
    needed = [field] if schema.validate({}) else []
    if name != _DEFAULT_TYPE:
        needed.append("task_type")
    return {"title": name, "properties": {"task_type": {"const": name}, field: shape}, "required": [*needed, *also]}


def _converter_of(spec: APISpec) -> Any:
    return next(plugin.converter for plugin in spec.plugins if isinstance(plugin, MarshmallowPlugin))
