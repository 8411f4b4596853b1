"""What conversations leave behind, by topic."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from jobs.settings import Settings
from jobs.store.database import Database
from tests.support.hand import finish
from tests.support.performing import perform
from tests.support.scripted import Script

TALK = [{"role": "Ada", "content": "Ship on Friday?"}, {"role": "Bo", "content": "Yes."}]


def memorize(client: FlaskClient, topic: str = "release", talk: Any = TALK) -> int:
    answer = client.post("/api/v1/memorize", json={"topic": topic, "conversation_history": talk})
    assert answer.status_code == 202, answer.get_json()
    return int(answer.get_json()["task_id"])


def made(summary: str, known: int = 0, topic: str = "release", facts: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"topic": topic, "summary": summary, "facts": list(facts), "known_version": known}


def memory(client: FlaskClient, topic: str = "release") -> dict[str, Any]:
    (found,) = client.get("/api/v1/memories", query_string={"topic": topic}).get_json()
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("talk", [TALK, "Ada: Ship on Friday? Bo: Yes."])
def test_memorize_submits_a_task(talk: Any, client: FlaskClient) -> None:
    answer = client.post("/api/v1/memorize", json={"topic": "release", "conversation_history": talk})
    assert answer.status_code == 202
    body = answer.get_json()
    assert set(body) == {"message", "task_id"}
    task = client.get(answer.headers["Location"]).get_json()
    assert (task["id"], task["task_type"]) == (body["task_id"], "memory_consolidation")
    assert task["input"] == {"topic": "release", "conversation_history": talk}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"topic": ""}, "topic"),
        ({"topic": None}, "topic"),
        ({"conversation_history": []}, "conversation_history"),
        ({"conversation_history": {"role": "a"}}, "conversation_history"),
        ({"conversation_history": [{"role": "a"}]}, "conversation_history"),
        ({"more": 1}, "more"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], field: str, client: FlaskClient) -> None:
    answer = client.post("/api/v1/memorize", json={"topic": "t", "conversation_history": TALK, **change})
    assert answer.status_code == 422
    assert list(answer.get_json()["errors"]["json"]) == [field]


def test_a_memory_is_kept_with_its_tasks_completion_and_known_to_the_next(
    client: FlaskClient, configured: Settings, database: Database
) -> None:
    for number, said in enumerate(["They ship on Friday.", "They shipped."]):
        task = client.get(f"/api/v1/tasks/{memorize(client)}").get_json()
        script = Script(f'{{"summary": "{said}", "facts": ["fact {number}"]}}')
        result = perform(configured, task, script)
        assert ("They ship on Friday.\n- fact 0" in script.asked()[0]) == bool(number)
        finish(database, task["id"], result=result)
        kept = memory(client)
        assert (kept["summary"], kept["facts"]) == (said, [f"fact {number}"])
        assert (kept["version"], kept["task_id"]) == (number + 1, task["id"])
    assert client.get(f"/api/v1/memories/{kept['id']}").get_json() == kept
    assert len(client.get("/api/v1/memories").get_json()) == 1


class TestConsolidationsAtTheSameTime:
    def test_lose_nothing_when_they_end_one_after_the_other(self, client: FlaskClient, database: Database) -> None:
        one, two, three = (memorize(client) for _ in range(3))
        finish(database, one, result=made("A", facts=("a",)))
        finish(database, two, result=made("B", facts=("b",)))
        kept = memory(client)
        assert (kept["summary"], kept["facts"], kept["version"]) == ("A\n\nB", ["a", "b"], 2)
        finish(database, three, result=made("both", known=2))
        assert memory(client)["summary"] == "both"

    def test_nor_when_they_end_together(self, client: FlaskClient, database: Database) -> None:
        finish(database, memorize(client), memorize(client), result=made("A", facts=("a", "b")))
        assert (memory(client)["summary"], memory(client)["facts"]) == ("A\n\nA", ["a", "b", "a", "b"])

    def test_and_a_result_that_is_given_again_adds_nothing(self, client: FlaskClient, database: Database) -> None:
        given = {"topic": "release", "conversation_history": TALK}
        task = {"task_type": "memory_consolidation", "cache_ttl": 60, "input": given}
        finish(database, client.post("/api/v1/tasks", json=task).get_json()["id"], result=made("A"))
        assert client.post("/api/v1/tasks", json=task).get_json()["status"] == "COMPLETED"
        assert (memory(client)["summary"], memory(client)["version"]) == ("A", 1)


def test_what_is_not_there_is_404_and_what_is_not_known_is_refused(client: FlaskClient) -> None:
    assert client.get("/api/v1/memories/1").status_code == 404
    assert client.get("/api/v1/memories?subject=x").status_code == 422
    assert client.get("/api/v1/memories?topic=x").get_json() == []
