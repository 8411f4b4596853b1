"""Whatever an attempt came to, recording it comes to an end, and costs no other attempt its own outcome."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from flask.testing import FlaskClient

from jobs.attempt import Claim, Outcome
from jobs.errors import TaskError
from jobs.lifecycle import Status
from jobs.recorder import Recorder
from jobs.settings import Settings
from jobs.store.database import AsyncDatabase, Database, Row
from tests.support import hand


def record(configured: Settings, outcomes: Sequence[Outcome]) -> list[Row]:
    """Have a recorder store them; what it says it has."""
    recorded: list[Row] = []

    async def run() -> None:
        async with AsyncDatabase(configured.database_url, max_size=1).opened() as database:
            recorder = Recorder(database, "w", recorded.extend)
            for outcome in outcomes:
                recorder.put(outcome)
            await recorder.drain()

    asyncio.run(run())
    return recorded


@pytest.fixture
def claims(client: FlaskClient, database: Database) -> list[Claim]:
    """Three tasks at work."""
    ids = [client.post("/api/v1/tasks", json={"prompt": "p", "model": "m"}).get_json()["id"] for _ in range(3)]
    return [Claim.from_row(row) for row in hand.claim(database, hand.register(database), ids)]


def completed(claim: Claim, **result: Any) -> Outcome:
    return Outcome(claim, Status.COMPLETED, result=result, usage={"total_tokens": 7})


@pytest.mark.parametrize("bad", ["a\x00b", "\ud800", object()])
def test_a_result_that_cannot_be_stored_fails_its_own_task_alone(
    bad: Any, configured: Settings, claims: list[Claim], client: FlaskClient
) -> None:
    good, odd, other = claims
    record(configured, [completed(good), completed(odd, text=bad), completed(other)])
    tasks = [client.get(f"/api/v1/tasks/{claim.id}").get_json() for claim in claims]
    assert [task["status"] for task in tasks] == ["COMPLETED", "FAILED", "COMPLETED"]
    assert tasks[1]["error"]["code"] == "handler_error"
    assert tasks[1]["usage"] == {"total_tokens": 7}, "these were spent all the same"


@pytest.mark.parametrize("refused", ["usage", "ends_new"])
def test_a_failure_that_is_refused_too_is_stored_with_less(
    refused: str, configured: Settings, claims: list[Claim], client: FlaskClient, database: Database
) -> None:
    constraint = "tasks ADD CHECK (usage IS NULL)" if refused == "usage" else "ends_new ADD CHECK (status = '')"
    with database.transaction() as session:
        session.run(f"ALTER TABLE {constraint}")
    recorded = record(configured, [completed(claim) for claim in claims])
    assert {row["id"] for row in recorded} == {claim.id for claim in claims}
    tasks = [client.get(f"/api/v1/tasks/{claim.id}").get_json() for claim in claims]
    assert {(task["status"], task["error"]["code"]) for task in tasks} == {("FAILED", "handler_error")}


def test_what_cannot_be_recorded_at_all_holds_nothing_up(
    configured: Settings, claims: list[Claim], client: FlaskClient, database: Database
) -> None:
    with database.transaction() as session:
        session.run("ALTER TABLE tasks ADD CHECK (id > 1 OR completed_at IS NULL)")
    recorded = record(configured, [completed(claim) for claim in claims])
    assert [row["id"] for row in recorded] == [2, 3]


def test_a_suspect_that_waits_for_its_turn_is_not_failed_as_rate_limited(
    configured: Settings, claims: list[Claim], client: FlaskClient, database: Database
) -> None:
    claim, limited, _ = claims
    busy = TaskError("rate_limited", "busy", retryable=True, status_code=429)
    record(configured, [
        Outcome(claim, Status.RETRYING, delay=0.0, free=True),
        Outcome(limited, Status.RETRYING, error=busy, delay=0.0, free=True),
    ])  # fmt: skip
    task = client.get(f"/api/v1/tasks/{claim.id}").get_json()
    assert (task["status"], task["attempt"], task["error"]) == ("RETRYING", 0, None)
    events = client.get(f"/api/v1/tasks/{claim.id}/events").get_json()
    assert events[-1]["detail"]["reason"] == "waits for its turn"
    again = hand.claim(database, hand.register(database), [claim.id, limited.id])
    assert [row["limited_for"] is None for row in again] == [True, False]
    record(configured, [Outcome(Claim.from_row(row), Status.RETRYING, delay=0.0, free=True) for row in again])
    again = hand.claim(database, hand.register(database), [claim.id, limited.id])
    assert [row["limited_for"] is None for row in again] == [True, False], "who waits for a model goes on to do so"
