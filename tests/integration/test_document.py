"""The OpenAPI document is valid and complete: routes, answers, headers, examples, links."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

# Pages for people, and what belongs to them.
UNDOCUMENTED = {
    "/", "/login", "/logout", "/docs", "/docs/assets/<path:name>", "/favicon.ico", "/openapi.json",
    "/static/<path:filename>",
}  # fmt: skip
PLACE = re.compile(r"<(?:[^:>]+:)?([^>]+)>")
METHODS = ("get", "put", "post", "patch", "delete")


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").get_json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """`METHOD path` and the operation."""
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                shared = item.get("parameters", [])
                operation = item[method]
                yield f"{method.upper()} {path}", {**operation, "parameters": [*shared, *operation["parameters"]]}


def resolved(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in part:
        _, kind, name = part["$ref"].removeprefix("#/").split("/")
        part = document["components"][kind][name]
    return part


def answers(document: dict[str, Any], operation: dict[str, Any]) -> dict[int, dict[str, Any]]:
    return {int(code): resolved(document, answer) for code, answer in operation["responses"].items()}


def bodies(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every request's and answer's body: whose, content type, description."""
    for name, operation in operations(document):
        places = [(name, operation["requestBody"])] if "requestBody" in operation else []
        places += [(f"{name} {code}", answer) for code, answer in answers(document, operation).items()]
        for place, message in places:
            for content_type, body in message.get("content", {}).items():
                yield place, content_type, body


def is_list(operation: dict[str, Any]) -> bool:
    """Whether it lists what is there; what is nearest to a text, or what comes next, has no end."""
    content = operation["responses"]["200"].get("content", {}) if "200" in operation["responses"] else {}
    shape = content.get("application/json", {}).get("schema", {})
    return shape.get("type") == "array" and operation["operationId"] not in ("search", "preview_schedule")


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    validate(document)


def test_every_route_is_described_with_each_of_its_methods(app: Flask, document: dict[str, Any]) -> None:
    routes = {
        method + " " + PLACE.sub(r"{\1}", rule.rule)
        for rule in app.url_map.iter_rules()
        if rule.rule not in UNDOCUMENTED
        and not rule.rule.startswith("/rq")
        and not rule.endpoint.startswith("console.")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert routes == {name for name, _ in operations(document)}


def test_operations_say_what_they_are(document: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in document["tags"] if tag["description"]}
    for name, operation in operations(document):
        assert operation["summary"].endswith("."), name
        assert set(operation["tags"]) <= tags, name
    ids = [operation["operationId"] for _, operation in operations(document)]
    assert len(set(ids)) == len(ids)


def test_the_errors_that_a_request_can_meet_on_its_way_are_declared(app: Flask, document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        codes = set(answers(document, operation))
        is_open = name.endswith(("/health", "/api/v1/health"))
        wanted = {405, 414, 431}
        if not is_open:
            wanted |= {401, 403}
        if not is_open and name != "GET /metrics":
            wanted |= {429, 503}
        if "{" in name:
            wanted |= {404}
        if "requestBody" in operation:
            wanted |= {400, 408, 413, 415, 422}
        if any(parameter.get("in") == "query" for parameter in operation["parameters"]):
            wanted |= {422}
        assert wanted <= codes, name
        assert (operation["security"] == []) == is_open, name
        assert sum(200 <= code < 300 for code in codes) >= 1, name


def test_every_answer_has_its_headers(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        taken = {resolved(document, parameter)["name"] for parameter in operation["parameters"]}
        assert "X-Request-ID" in taken, name
        for code, answer in answers(document, operation).items():
            headers = set(answer["headers"])
            assert "X-Request-ID" in headers, name
            assert ("Location" in headers) >= (code in (201, 202, 303)), name
            assert ({"X-Total-Count", "Link"} <= headers) >= ("cursor" in taken and code == 200), name
            assert ("X-Total-Count" in headers) == (code == 200 and is_list(operation)), name
            assert ("Idempotent-Replayed" in headers) >= ("Idempotency-Key" in taken and code == 200), name
            assert ("Retry-After" in headers) >= (code in (429, 503)), name
            assert ("Allow" in headers) >= (code == 405), name


def test_every_body_has_a_schema_and_an_example_that_fits_it(document: dict[str, Any]) -> None:
    for place, content_type, body in bodies(document):
        assert body["schema"], place
        assert "example" in body, f"{place} {content_type}: add its schema to api/examples.json"
        shape = {**body["schema"], "components": document["components"]}
        OAS31Validator(shape).validate(body["example"])


def test_every_error_is_the_same_json(document: dict[str, Any]) -> None:
    for _, operation in operations(document):
        for code, answer in answers(document, operation).items():
            own_report = code == 503 and operation["operationId"] in ("readiness", "scheduler_status")
            if code >= 400 and not own_report:
                assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Error"}


def test_links_lead_to_operations_and_their_parameters(document: dict[str, Any]) -> None:
    taken = {
        operation["operationId"]: {resolved(document, parameter)["name"] for parameter in operation["parameters"]}
        for _, operation in operations(document)
    }
    links = document["components"]["links"]
    for link in links.values():
        assert set(link["parameters"]) <= taken[link["operationId"]]
    used = {
        link["$ref"].rpartition("/")[2]
        for _, operation in operations(document)
        for answer in operation["responses"].values()
        for link in answer.get("links", {}).values()
    }
    assert used == set(links)


def test_the_live_form_of_events_is_described(document: dict[str, Any]) -> None:
    for path in ("/api/v1/tasks/{task_id}/events", "/api/v1/batches/{batch_id}/events"):
        assert "text/event-stream" in document["paths"][path]["get"]["responses"]["200"]["content"]
    assert "text/plain" in document["paths"]["/metrics"]["get"]["responses"]["200"]["content"]


def test_all_ways_to_send_a_key_are_described(document: dict[str, Any]) -> None:
    schemes = document["components"]["securitySchemes"]
    kinds = {(scheme["type"], scheme.get("scheme") or scheme["in"]) for scheme in schemes.values()}
    assert kinds == {("http", "bearer"), ("http", "basic"), ("apiKey", "header"), ("apiKey", "cookie")}
    for name, operation in operations(document):
        assert {scheme for one in operation["security"] for scheme in one} in (set(schemes), set()), name
    scopes = {operation["operationId"]: operation["security"][:1] for _, operation in operations(document)}
    assert scopes["get_task"] == [{"bearer": ["read"]}]
    assert scopes["create_task"] == [{"bearer": ["submit"]}]
    assert scopes["create_account"] == scopes["callback_secret"] == [{"bearer": ["admin"]}]


def test_each_task_type_and_executor_is_a_shape_of_its_own(app: Flask, client: FlaskClient, document: Any) -> None:
    shapes = document["components"]["schemas"]
    types = {kind["name"] for kind in client.get("/api/v1/task-types").get_json()}
    assert {one["title"] for one in shapes["NewTask"]["oneOf"]} == types
    executors = {executor["name"] for executor in client.get("/api/v1/scheduler/executors").get_json()}
    assert {one["title"] for one in shapes["NewSchedule"]["allOf"][0]["oneOf"]} == executors
