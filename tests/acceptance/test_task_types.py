"""Task types of one's own as their page has them, memories and embeddings, with real processes."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.support.instance import ROOT, Instance, fresh_directory, running
from tests.support.model_server import Behaviour, ModelServer
from tests.support.pages import blocks


@pytest.fixture(scope="module")
def model() -> ModelServer:
    return ModelServer()


@pytest.fixture(scope="module")
def instance(model: ModelServer) -> Iterator[Instance]:
    """An instance with the example of docs/own-task-types.md among its handlers."""
    (example,) = [block for block in blocks(ROOT / "docs" / "own-task-types.md") if block.file == "own_tasks.py"]
    with fresh_directory() as directory, model.serving() as url:
        (directory / "own_tasks.py").write_text(example.text)
        settings = {"LLM_BASE_URL": url, "HANDLER_MODULES": "own_tasks", "PYTHONPATH": str(directory)}
        with running(directory / "data", WORKER_CONCURRENCY=5, **settings) as up:
            yield up


def perform(instance: Instance, name: str, given: dict[str, Any]) -> Any:
    """The result of a task."""
    answer = instance.http.post("/api/v1/tasks", json={"task_type": name, "input": given})
    assert answer.status_code == 201, answer.text
    done = instance.ended(answer.json()["id"])
    assert done["status"] == "COMPLETED", done["error"]
    return done["result"]


def test_own_task_types_work_in_each_mode(instance: Instance, model: ModelServer) -> None:
    types = {kind["name"]: kind for kind in instance.http.get("/api/v1/task-types").json()}
    modes = {name: types[name]["mode"] for name in ("translate", "count_accounts", "count_primes")}
    assert modes == {"translate": "coroutine", "count_accounts": "thread", "count_primes": "process"}
    assert types["translate"]["retention_days"] == 7
    instance.http.post("/api/v1/accounts", json={"name": "A"})
    assert perform(instance, "translate", {"text": "Guten Tag"})["text"].endswith("Guten Tag")
    assert "into English" in model.calls[-1]["messages"][0]["content"]
    assert perform(instance, "count_accounts", {}) == {"accounts": 1}
    assert perform(instance, "count_primes", {"below": 100}) == {"primes": 25}


def test_what_was_answered_is_not_paid_for_again(instance: Instance, model: ModelServer) -> None:
    """A document in two parts: the call for the second fails at first, and only that one is made again."""
    model.answer = '{"title": "t", "kind": "k", "language": "en", "summary": "s", "key_points": [], "topics": []}'
    model.calls.clear()
    model.script.extend([Behaviour(), Behaviour("error", status=500)])
    try:
        given = {"text": "word " * 300, "part_chars": 1000}
        task = {"task_type": "document_analysis", "input": given, "retry": {"strategy": "fixed", "base_delay": 0.1}}
        done = instance.ended(instance.http.post("/api/v1/tasks", json=task).json()["id"])
    finally:
        model.answer = None
    assert (done["status"], done["attempt"], done["result"]["parts"]) == ("COMPLETED", 2, 2)
    first, failed, again, merged = [call["messages"] for call in model.calls]
    assert (first != failed, failed == again, merged != again) == (True, True, True)
    assert done["usage"]["prompt_tokens"] == 15, "three answers, each counted once"
    with psycopg.connect(instance.database_url) as connection:
        assert connection.execute("SELECT count(*) FROM answers").fetchone() == (0,)


def test_texts_are_embedded_and_found(instance: Instance, model: ModelServer) -> None:
    texts = [f"note number {number}" for number in range(120)] + ["the cat sleeps"]
    result = perform(instance, "embedding", {"texts": texts, "collection": "notes", "metadata": [{}] * 121})
    assert (result["count"], result["model"], result["dimensions"]) == (121, "text-embedding-3-small", 256)
    assert [len(call["input"]) for call in model.calls[-2:]] == [100, 21]
    answer = instance.http.get("/api/v1/embeddings/search?q=a+sleeping+cat&collection=notes&limit=1")
    assert [hit["text"] for hit in answer.json()] == ["the cat sleeps"]
    assert instance.http.delete("/api/v1/embeddings?collection=notes").json()["removed"] == 121


def test_a_conversation_is_remembered(instance: Instance, model: ModelServer) -> None:
    model.answer = '{"summary": "They ship on Friday.", "facts": ["Ada wants Friday."]}'
    talk = {"topic": "release", "conversation_history": [{"role": "Ada", "content": "Friday?"}]}
    task_id = instance.http.post("/api/v1/memorize", json=talk).json()["task_id"]
    assert instance.ended(task_id)["status"] == "COMPLETED"
    (memory,) = instance.http.get("/api/v1/memories?topic=release").json()
    assert (memory["summary"], memory["facts"]) == ("They ship on Friday.", ["Ada wants Friday."])
    model.answer = None
