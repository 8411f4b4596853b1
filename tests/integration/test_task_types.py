"""Task types over HTTP."""

from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient

from api import services
from jobs.handlers import registry


def test_all_types_are_listed_with_what_a_task_of_theirs_becomes(client: FlaskClient) -> None:
    answer = client.get("/api/v1/task-types")
    types = {kind["name"]: kind for kind in answer.get_json()}
    assert set(types) == set(registry.load())
    assert answer.headers["X-Total-Count"] == str(len(types))
    inputs: dict[str, Any] = {
        "text_generation": {},
        "content_generation": {"account_id": 1},
        "daily_life": {"target_date": "2026-11-23"},
        "memory_consolidation": {"topic": "t", "conversation_history": "x"},
        "conversation_analysis": {"conversation": "x"},
        "document_analysis": {"text": "x"},
        "embedding": {"texts": ["x"]},
        "cleanup": {},
    }
    for name, given in inputs.items():
        kind = types[name]
        more = {"prompt": "p", "model": "m"} if kind["needs_prompt"] else {}
        task = client.post("/api/v1/tasks", json={"task_type": name, "input": given, **more}).get_json()
        for default in ("timeout_seconds", "max_retries", "retry", "priority", "queue"):
            assert kind[default] == task[default], (name, default)
        assert kind["model"] in (None, task["model"])
        assert kind["input_schema"]["type"] == "object"
        assert kind["description"]


def test_one_type(client: FlaskClient) -> None:
    kind = client.get("/api/v1/task-types/embedding").get_json()
    assert (kind["mode"], kind["needs_prompt"], kind["calls_model"]) == ("coroutine", False, True)
    assert (kind["model"], kind["retention_days"]) == ("text-embedding-3-small", 7)
    schema = kind["input_schema"]
    assert schema["required"] == ["texts"]
    assert schema["properties"]["texts"]["maxItems"] == 2048
    assert schema["additionalProperties"] is False
    assert client.get("/api/v1/task-types/cleanup").get_json()["mode"] == "thread"
    assert client.get("/api/v1/task-types/juggling").status_code == 404


def test_a_conversation_may_be_a_list_or_a_text(client: FlaskClient) -> None:
    schema = client.get("/api/v1/task-types/memory_consolidation").get_json()["input_schema"]
    text, messages = schema["properties"]["conversation_history"]["oneOf"]
    assert (text["type"], messages["type"], messages["items"]["required"]) == ("string", "array", ["role", "content"])


def test_embeddings_have_a_model_of_their_own(client: FlaskClient) -> None:
    models = [
        client.post("/api/v1/tasks", json={"task_type": "embedding", "input": {"texts": ["x"]}, **more}).get_json()
        for more in ({}, {"model": "own-model"})
    ]
    assert [task["model"] for task in models] == ["text-embedding-3-small", "own-model"]


def test_a_type_without_days_of_its_own_has_the_settings(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = services.get()
    changed = replace(tools, settings=replace(tools.settings, task_retention_days=3))
    monkeypatch.setattr(services, "get", lambda: changed)
    assert client.get("/api/v1/task-types/text_generation").get_json()["retention_days"] == 3
    assert client.get("/api/v1/task-types/document_analysis").get_json()["retention_days"] == 90
