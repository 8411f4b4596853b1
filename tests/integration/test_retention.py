"""Clean-up: what ended long ago goes, with what belongs to it; what somebody still needs stays."""

from dataclasses import replace
from typing import Any, cast

import pytest
from flask.testing import FlaskClient

from jobs.handlers import maintenance, registry
from jobs.handlers.context import Context
from jobs.settings import Settings
from jobs.store.database import Database
from tests.support.contexts import FACTS, SilentLine

_END = """
UPDATE tasks SET status = 'COMPLETED', completed_at = now() - %(days)s * interval '1 day',
    created_at = now() - %(days)s * interval '1 day', has_children = false
WHERE id = %(id)s"""


@pytest.fixture
def cleanup(configured: Settings, database: Database, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the handler, a few rows at a time; returns how many tasks it removed."""
    monkeypatch.setattr(maintenance, "_AT_ONCE", 2)
    kinds = registry.load()
    longer = {**kinds, "daily_life": replace(kinds["daily_life"], retention_days=60)}
    monkeypatch.setattr(registry, "_registered", longer)

    def run(**given: Any) -> int:
        context = Context(replace(FACTS, input=given), configured, SilentLine())
        monkeypatch.setattr(Context, "database", database)
        return cast(int, maintenance.cleanup(context)["removed"]["tasks"])

    return run


def submit(client: FlaskClient, **facts: Any) -> int:
    answer = client.post("/api/v1/tasks", json={"prompt": "p", "model": "m", **facts})
    assert answer.status_code == 201, answer.get_json()
    return int(answer.get_json()["id"])


def end(database: Database, task_id: int, days: float) -> None:
    with database.transaction() as session:
        session.run(_END, {"id": task_id, "days": days})


def left(database: Database, table: str = "tasks", column: str = "id") -> set[int]:
    with database.transaction() as session:
        return {row["id"] for row in session.run(f"SELECT {column} AS id FROM {table}")}


def typed(client: FlaskClient, name: str) -> int:
    given: dict[str, Any] = {"embedding": {"texts": ["x"]}, "daily_life": {"target_date": "2026-11-23"}}
    return submit(client, task_type=name, input=given.get(name, {}))


def test_each_type_is_kept_as_long_as_it_says(client: FlaskClient, database: Database, cleanup: Any) -> None:
    kept, gone = set(), set()
    for name, days in (("text_generation", 30), ("embedding", 7), ("daily_life", 60)):
        for _ in range(3):
            young, old = typed(client, name), typed(client, name)
            end(database, young, days - 1)
            end(database, old, days + 1)
            kept.add(young)
            gone.add(old)
    unfinished = submit(client)
    assert cleanup() == len(gone)
    assert left(database) == kept | {unfinished}
    assert left(database, "task_events", "task_id") == kept | {unfinished}


def test_days_given_by_hand_are_for_types_without_their_own(
    client: FlaskClient, database: Database, cleanup: Any
) -> None:
    text, vectors, day = submit(client), typed(client, "embedding"), typed(client, "daily_life")
    for task_id in (text, vectors, day):
        end(database, task_id, 5)
    assert cleanup(retention_days=2) == 1
    assert left(database) == {vectors, day}


def test_profiles_and_links_go_with_their_tasks(client: FlaskClient, database: Database, cleanup: Any) -> None:
    parent = submit(client)
    child = submit(client, depends_on=[parent])
    other = submit(client)
    for task_id in (parent, child, other):
        database.all("keep_profile", {"id": task_id, "attempt": 1, "page": "<html>"})
    end(database, parent, 40)
    end(database, child, 40)
    assert cleanup() == 2
    assert left(database) == left(database, "task_profiles", "task_id") == {other}
    assert left(database, "task_parents", "child_id") == set()


def test_a_parent_stays_while_a_child_works(client: FlaskClient, database: Database, cleanup: Any) -> None:
    parent = submit(client)
    child = submit(client, depends_on=[parent])
    with database.transaction() as session:
        session.run("UPDATE task_parents SET done = true")
    end(database, parent, 40)
    assert cleanup() == 0
    end(database, child, 0)
    assert cleanup() == 1
    assert left(database) == {child}
    assert left(database, "task_parents", "child_id") == set()


def test_the_audit_stays_as_long_as_the_settings_say_whoever_cleans_up(
    client: FlaskClient, database: Database, cleanup: Any
) -> None:
    for days in (1, 29, 31):
        client.delete("/api/v1/accounts/999")
        with database.transaction() as session:
            session.run(
                f"UPDATE audit SET created_at = now() - interval '{days} day' WHERE created_at > now() - interval '1 h'"
            )
    cleanup(retention_days=1)
    assert len(left(database, "audit")) == 2


def test_sessions_that_have_ended_go(database: Database, cleanup: Any) -> None:
    for seconds in (-1, 60):
        facts = {"digest": bytes([seconds % 256]), "name": "ada", "prefix": "", "proof": b"", "seconds": seconds}
        database.all("keep_session", facts)
    cleanup()
    assert len(left(database, "sessions", "key_name")) == 1
