"""Word of the end of tasks and batches reaches who asked for it, signed, however often that must be tried."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from standardwebhooks import Webhook

from api import create_app, services
from jobs.deliverer import Deliverer
from jobs.handlers.maintenance import cleanup
from jobs.retry import RetryPolicy
from jobs.setting_values import ApiKey
from jobs.settings import Settings
from jobs.store.database import Database, Json
from tests.support.hand import finish
from tests.support.receiver import Got, Receiver
from tests.support.waiting import wait_until

AT_ONCE = RetryPolicy("fixed", base_delay=0.01, jitter=False)
TASK = {"prompt": "p", "model": "m"}


@pytest.fixture
def configured(configured: Settings) -> Settings:
    return replace(configured, callback_allowed_networks=(ip_network("127.0.0.0/8"),))


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.deliverer._POLL_SECONDS", 0.02)


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def url(receiver: Receiver) -> Iterator[str]:
    with receiver.serving() as base:
        yield f"{base}/hook?token=verysecret"


@contextmanager
def delivering(settings: Settings, policy: RetryPolicy = AT_ONCE) -> Iterator[Deliverer]:
    """A worker's deliveries, without the worker."""
    deliverer, loop = Deliverer(settings, policy), asyncio.new_event_loop()
    work = loop.create_task(deliverer.run())
    thread = threading.Thread(target=loop.run_until_complete, args=(asyncio.wait([work]),), daemon=True)
    thread.start()
    try:
        yield deliverer
    finally:
        loop.call_soon_threadsafe(work.cancel)
        thread.join(10)
        loop.close()
        assert work.cancelled(), work.exception()


def submit(client: FlaskClient, callback_url: str, **fields: Any) -> int:
    answer = client.post("/api/v1/tasks", json={**TASK, "callback_url": callback_url, **fields})
    assert answer.status_code == 201, answer.get_json()
    return int(answer.get_json()["id"])


def callbacks(client: FlaskClient, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"/api/v1/callbacks?sort=id&{query}").get_json()
    return found


def settled(client: FlaskClient, count: int = 1) -> list[dict[str, Any]]:
    """All callbacks, once so many have been delivered or given up."""
    wait_until(
        lambda: sum(row["status"] != "PENDING" for row in callbacks(client, "limit=1000")) >= count,
        f"{count} callbacks are settled",
    )
    return callbacks(client, "limit=1000")


def log_of(client: FlaskClient, row: dict[str, Any]) -> list[dict[str, Any]]:
    log: list[dict[str, Any]] = client.get(f"/api/v1/callbacks/{row['id']}").get_json()["log"]
    return log


def verified(client: FlaskClient, got: Got) -> dict[str, Any]:
    """The message, by an implementation that is not ours."""
    secret = client.get("/api/v1/callbacks/secret").get_json()["secret"]
    message: dict[str, Any] = Webhook(secret).verify(got.body, got.headers)
    return message


def change(database: Database, statement: Any) -> None:
    with database.transaction() as session:
        session.run(statement)


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "CANCELLED"])
def test_the_end_of_a_task_is_told_as_the_api_shows_it(
    status: str, client: FlaskClient, database: Database, configured: Settings, receiver: Receiver, url: str
) -> None:
    task_id = submit(client, url, metadata={"注": [1.5, None]}, run_at="2020-01-01T00:00:00Z")
    assert callbacks(client) == []
    if status == "CANCELLED":
        client.post(f"/api/v1/tasks/{task_id}/cancel")
    else:
        finish(database, task_id, status=status, result={"text": "值"})
    with delivering(configured):
        (row,) = settled(client)
    assert (row["status"], row["attempts"], row["task_id"], row["batch_id"]) == ("DELIVERED", 1, task_id, None)
    (got,) = receiver.got
    assert got.path == "/hook?token=verysecret"
    message = verified(client, got)
    assert message["type"] == row["type"] == f"task.{status.lower()}"
    assert message["timestamp"] == row["created_at"]
    assert message["data"] == client.get(f"/api/v1/tasks/{task_id}").get_json()
    assert list(message["data"]) == list(client.get(f"/api/v1/tasks/{task_id}").get_json())
    assert "值" in got.body.decode() or status != "COMPLETED"


def test_tasks_without_a_callback_make_none(client: FlaskClient, database: Database) -> None:
    finish(database, client.post("/api/v1/tasks", json=TASK).get_json()["id"])
    assert callbacks(client) == []


def test_a_cached_result_is_told_too(client: FlaskClient, database: Database, url: str) -> None:
    finish(database, submit(client, url))
    submit(client, url, cache_ttl=60)
    assert [row["type"] for row in callbacks(client)] == ["task.completed"] * 2


def test_four_failures_do_not_keep_the_fifth_try_from_succeeding(
    client: FlaskClient, database: Database, configured: Settings, receiver: Receiver, url: str
) -> None:
    receiver.script.extend([500] * 4)
    finish(database, submit(client, url))
    with delivering(configured):
        (row,) = settled(client)
    assert (row["status"], row["attempts"]) == ("DELIVERED", 5)
    assert len(receiver.got) == 5
    assert {got.headers["webhook-id"] for got in receiver.got} == {row["webhook_id"]}
    for got in receiver.got:
        assert verified(client, got)["data"]["status"] == "COMPLETED"
    log = log_of(client, row)
    assert [(entry["number"], entry["status_code"]) for entry in log] == [
        (1, 500),
        (2, 500),
        (3, 500),
        (4, 500),
        (5, 200),
    ]
    assert all(entry["error"] is None and 0 <= entry["duration"] < 10 for entry in log)


def test_each_end_is_told_as_it_was(
    client: FlaskClient, database: Database, configured: Settings, receiver: Receiver, url: str
) -> None:
    task_id = submit(client, url)
    finish(database, task_id, status="FAILED")
    client.post(f"/api/v1/tasks/{task_id}/retry")
    finish(database, task_id)
    with delivering(configured):
        rows = settled(client, 2)
    assert len({row["webhook_id"] for row in rows}) == 2
    messages = {message["type"]: message["data"] for message in (verified(client, got) for got in receiver.got)}
    assert messages["task.failed"]["error"]["code"] == "provider_error"
    assert messages["task.completed"]["error"] is None


@pytest.mark.parametrize("how", ["completed", "cancelled"])
def test_the_end_of_a_batch_is_told_as_the_api_shows_it(
    how: str, app: Flask, client: FlaskClient, database: Database, configured: Settings, receiver: Receiver, url: str
) -> None:
    answer = client.post("/api/v1/tasks/batch", json={"callback_url": url, "tasks": [TASK] * 3})
    batch_id = answer.get_json()["id"]
    first, second, third = (task["id"] for task in client.get(f"/api/v1/tasks?batch_id={batch_id}").get_json())
    followups = services.get().submitter.followups
    followups.after(finish(database, first, status="FAILED"))
    assert callbacks(client) == [], "it has not ended yet"
    if how == "cancelled":
        client.post(f"/api/v1/batches/{batch_id}/cancel")
    else:
        followups.after(finish(database, second, third))
    with delivering(configured):
        (row,) = settled(client)
    assert (row["batch_id"], row["task_id"]) == (batch_id, None)
    message = verified(client, receiver.got[0])
    assert message["type"] == f"batch.{how}"
    assert message["data"] == client.get(f"/api/v1/batches/{batch_id}").get_json()
    assert message["data"]["errors"][0]["task_id"] == first
    assert callbacks(client, f"batch_id={batch_id}") == [row]


def test_a_receiver_that_is_gone_is_left_alone_until_a_replay(
    client: FlaskClient, database: Database, configured: Settings, receiver: Receiver, url: str
) -> None:
    receiver.script.append(410)
    finish(database, submit(client, url))
    with delivering(configured):
        (row,) = settled(client)
        assert (row["status"], row["attempts"]) == ("FAILED", 1)
        answer = client.post(f"/api/v1/callbacks/{row['id']}/replay")
        assert (answer.status_code, answer.get_json()["status"]) == (202, "PENDING")
        (row,) = settled(client)
    assert (row["status"], row["attempts"]) == ("DELIVERED", 2)
    assert len({got.headers["webhook-id"] for got in receiver.got}) == 1
    assert client.post("/api/v1/callbacks/999/replay").status_code == 404
    assert client.get("/api/v1/callbacks/999").status_code == 404


def test_after_a_day_it_is_given_up(
    client: FlaskClient, database: Database, configured: Settings, receiver: Receiver, url: str
) -> None:
    receiver.usual = 500
    finish(database, submit(client, url))
    change(database, "UPDATE callbacks SET give_up_at = now() - interval '1 second'")
    with delivering(configured):
        (row,) = settled(client)
    assert (row["status"], row["attempts"], row["next_at"]) == ("FAILED", 1, None)


def test_one_that_was_delivered_after_a_day_was_delivered(
    client: FlaskClient, database: Database, configured: Settings, receiver: Receiver, url: str
) -> None:
    finish(database, submit(client, url))
    change(database, "UPDATE callbacks SET give_up_at = now() - interval '1 second'")
    with delivering(configured):
        (row,) = settled(client)
    assert (row["status"], row["attempts"]) == ("DELIVERED", 1)


def test_what_a_killed_worker_had_claimed_is_delivered_by_another_and_its_late_word_ignored(
    client: FlaskClient, database: Database, configured: Settings, receiver: Receiver, url: str
) -> None:
    finish(database, submit(client, url))
    room = {"room": 9, "each": 9, "busy": "{}", "lease": 600}
    (claimed,) = database.all("claim_callbacks", room)
    assert database.all("claim_callbacks", room) == [], "it is another worker's for now"
    change(database, "UPDATE callbacks SET next_at = now()")
    assert len(database.all("claim_callbacks", room)) == 1, "the lease has passed"
    late = {"id": claimed["id"], "number": 1, "at": "2026-01-01T00:00:00Z", "status_code": 410, "error": None}
    database.all("record_deliveries", {"outcomes": Json([{**late, "duration": 1, "status": "FAILED", "delay": 0}])})
    assert callbacks(client)[0]["status"] == "PENDING"
    change(database, "UPDATE callbacks SET next_at = now()")
    with delivering(configured):
        (row,) = settled(client)
    assert (row["status"], row["attempts"]) == ("DELIVERED", 3)
    assert [(entry["number"], entry["status_code"]) for entry in log_of(client, row)] == [(1, 410), (3, 200)]


def test_many_workers_share_them_and_each_is_delivered_once(
    client: FlaskClient, database: Database, configured: Settings, receiver: Receiver, url: str
) -> None:
    tasks = [{**TASK, "callback_url": url}] * 300
    batch_id = client.post("/api/v1/tasks/batch", json={"tasks": tasks}).get_json()["id"]
    client.post(f"/api/v1/batches/{batch_id}/cancel")
    with delivering(configured), delivering(configured), delivering(configured):
        rows = settled(client, 300)
    assert {(row["status"], row["attempts"]) for row in rows} == {("DELIVERED", 1)}
    assert len(receiver.got) == len({got.headers["webhook-id"] for got in receiver.got}) == 300


def test_receivers_that_hang_hold_up_no_other_and_a_stopping_worker_leaves_them_to_others(
    client: FlaskClient, database: Database, configured: Settings, receiver: Receiver, url: str
) -> None:
    slow = Receiver()
    slow.usual = 0
    with slow.serving() as slow_url:
        hanging = [{**TASK, "callback_url": slow_url}] * 100
        swift = [{**TASK, "callback_url": url}] * 20
        batch_id = client.post("/api/v1/tasks/batch", json={"tasks": hanging + swift}).get_json()["id"]
        client.post(f"/api/v1/batches/{batch_id}/cancel")
        with delivering(configured):
            settled(client, 20)
            wait_until(lambda: slow.got, "the slow one was called")
    assert len(receiver.got) == 20
    assert 0 < len(slow.got) <= 5
    tried = [row for row in callbacks(client, "status=PENDING&limit=1000") if row["attempts"]]
    assert [log_of(client, row)[0]["error"] for row in tried] == ["the worker stopped"] * len(tried)
    room = {"room": 999, "each": 999, "busy": "{}", "lease": 600}
    assert len(database.all("claim_callbacks", room)) == 100, "none of them has to wait for a lease"


def test_a_local_end_is_told_at_once(
    client: FlaskClient, database: Database, configured: Settings, receiver: Receiver, url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("jobs.deliverer._POLL_SECONDS", 3600)
    first, second = submit(client, url), submit(client, url)
    finish(database, first)
    with delivering(configured) as deliverer:
        settled(client)
        deliverer.notice(finish(database, second))
        settled(client, 2)
    assert len(receiver.got) == 2


def test_names_are_checked_when_they_are_called(
    client: FlaskClient, database: Database, configured: Settings, receiver: Receiver, url: str
) -> None:
    finish(database, submit(client, url.replace("127.0.0.1", "localhost")))
    with delivering(replace(configured, callback_allowed_networks=())):
        wait_until(lambda: callbacks(client)[0]["attempts"] > 2, "it was tried")
    (row,) = callbacks(client)
    assert (row["status"], receiver.got) == ("PENDING", [])
    assert log_of(client, row)[0]["error"] == "callbacks may not go to its address (see CALLBACK_ALLOWED_NETWORKS)"


@pytest.mark.parametrize(
    "host",
    ["10.0.0.1", "169.254.169.254", "2852039166", "0xa000001", "012.0.0.1", "[::1]", "[::ffff:10.0.0.1]", "[fe80::1]"],
)
def test_an_address_that_is_not_allowed_is_refused_at_once(host: str, client: FlaskClient) -> None:
    asked = {"callback_url": f"http://{host}/hook"}
    for path, body in (("tasks", {**TASK, **asked}), ("tasks/batch", {**asked, "tasks": [TASK]})):
        answer = client.post(f"/api/v1/{path}", json=body)
        assert answer.status_code == 422
        (said,) = answer.get_json()["errors"]["json"]["callback_url"]
        assert "not public, and not in CALLBACK_ALLOWED_NETWORKS" in said


def test_only_http_is_called(client: FlaskClient) -> None:
    answer = client.post("/api/v1/tasks", json={**TASK, "callback_url": "ftp://example.com/hook"})
    assert answer.get_json()["errors"]["json"] == {"callback_url": ["Must be http or https."]}


def test_the_list_filters(client: FlaskClient, database: Database, url: str) -> None:
    first, second = submit(client, url), submit(client, url)
    finish(database, first, second)
    assert [row["task_id"] for row in callbacks(client)] == [first, second]
    assert [row["task_id"] for row in callbacks(client, f"task_id={second}")] == [second]
    assert callbacks(client, "status=DELIVERED") == []
    assert client.get("/api/v1/callbacks?status=LOST").status_code == 422
    assert client.get("/api/v1/callbacks?limit=1").headers["X-Total-Count"] == "2"


class TestSecret:
    def test_without_a_setting_one_is_made_up_once(self, app: Flask, client: FlaskClient) -> None:
        secrets = {client.get("/api/v1/callbacks/secret").get_json()["secret"] for _ in range(3)}
        assert len(secrets) == 1
        assert secrets.pop().startswith("whsec_")

    def test_it_is_for_administrators_only(self, configured: Settings) -> None:
        given = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        keys = tuple(ApiKey(scope, f"{scope}-secret-0123456", scope) for scope in ("read", "submit", "admin"))
        app = create_app(replace(configured, api_keys=keys, callback_secret=given))
        client = app.test_client()
        for path in ("/api/v1/callbacks/secret", "/api/v1/callbacks/secret/"):
            answers = {
                key.name: client.get(path, headers={"X-API-Key": key.secret}, follow_redirects=True) for key in keys
            }
            assert [answer.status_code for answer in answers.values()] == [403, 403, 200]
            assert answers["admin"].get_json() == {"secret": given}
        replays = [
            client.post("/api/v1/callbacks/1/replay", headers={"X-API-Key": key.secret}).status_code for key in keys
        ]
        assert replays == [403, 404, 404]
        with app.app_context():
            services.get().database.close()


def test_clean_up_forgets_old_ones(client: FlaskClient, database: Database, configured: Settings, url: str) -> None:
    finish(database, submit(client, url), submit(client, url), submit(client, url))
    change(
        database,
        "UPDATE callbacks SET created_at = now() - interval '40 days',"
        " status = CASE WHEN id = 1 THEN 'PENDING' ELSE 'FAILED' END,"
        " next_at = CASE WHEN id = 1 THEN now() END, completed_at = CASE WHEN id > 1 THEN now() END",
    )
    change(database, "INSERT INTO callback_attempts SELECT id, 1, now(), 500, NULL, 0.1 FROM callbacks")
    context: Any = SimpleNamespace(settings=configured, input={}, database=database, check=lambda: None)
    removed = cleanup(context)["removed"]
    assert removed["callbacks"] == 2
    assert [row["id"] for row in callbacks(client)] == [1]
    with database.transaction() as session:
        assert session.run("SELECT callback_id FROM callback_attempts") == [{"callback_id": 1}]
