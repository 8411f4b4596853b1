"""Numbers about tasks: complete, at once, exactly once, and no older than wanted."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient

from api import create_app, services
from jobs import hooks, statistics
from jobs.errors import WORKER_LOST, TaskError
from jobs.followups import Followups
from jobs.handlers.reports import cost_statistics, monitoring_report
from jobs.prices import Price, Prices
from jobs.queues import Doorbell
from jobs.recorder import Recorder
from jobs.settings import Settings
from jobs.store.database import AsyncDatabase, Database, Json
from tests.support import hand
from tests.support.closing import close
from tests.support.contexts import context_for

NO = TaskError("provider_error", "no")
USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}


@pytest.fixture
def priced(configured: Settings, tmp_path: Path) -> Iterator[FlaskClient]:
    """A client of an app with a price list."""
    path = tmp_path / "providers.toml"
    path.write_text('currency = "EUR"\n[prices."dear"]\ninput = 10000\noutput = 50000\n')
    app = create_app(replace(configured, providers_file=path))
    yield app.test_client()
    with app.app_context():
        services.get().database.close()
        services.get().doorbell.connection.close()


def submit(client: FlaskClient, **fields: Any) -> int:
    answer = client.post("/api/v1/tasks", json={"prompt": "p", "model": "m", **fields})
    assert answer.status_code == 201, answer.get_json()
    return int(answer.get_json()["id"])


def get(client: FlaskClient, path: str) -> Any:
    answer = client.get(f"/api/v1/stats/{path}")
    assert answer.status_code == 200, answer.get_json()
    return answer.get_json()


def by_status(client: FlaskClient) -> dict[str, int]:
    found = get(client, "tasks")
    assert found["total_tasks"] == sum(found["by_status"].values())
    return {status: count for status, count in found["by_status"].items() if count}


class TestEnds:
    def test_every_end_counts_at_once_and_once(self, client: FlaskClient, database: Database) -> None:
        hand.finish(database, *(submit(client) for _ in range(3)))
        hand.finish(database, submit(client), status="FAILED", error=NO)
        before = get(client, "tasks")
        assert before["by_status"] == {"CANCELLED": 0, "COMPLETED": 3, "FAILED": 1}
        assert (before["success_rate"], before["attempts"]) == (0.75, 4)
        assert before["error_codes"] == {"provider_error": 1}
        assert before["throughput_per_minute"] > 0
        statistics.fold(database)
        assert {**get(client, "tasks"), "throughput_per_minute": None} == {**before, "throughput_per_minute": None}

    def test_any_number_of_processes_may_fold_while_tasks_end(self, client: FlaskClient, database: Database) -> None:
        ids = [submit(client) for _ in range(12)]
        with ThreadPoolExecutor(4) as threads:
            futures: list[Future[Any]] = [threads.submit(hand.finish, database, task_id) for task_id in ids]
            futures += [threads.submit(statistics.fold, database) for _ in range(20)]
        for future in futures:
            future.result()
        statistics.fold(database)
        assert by_status(client) == {"COMPLETED": 12}

    def test_what_is_rolled_back_does_not_count(self, client: FlaskClient, database: Database) -> None:
        task_id = submit(client)
        hand.finish(database, task_id)
        moved = {"id": task_id, "status": "COMPLETED", "task_type": "text_generation", "has_callback": False}
        with database.transaction() as session, suppress(RuntimeError), session.savepoint():
            hooks.run(session, [moved])
            raise RuntimeError
        assert by_status(client) == {"COMPLETED": 1}

    def test_cancelled_waiting_tasks_count(self, client: FlaskClient) -> None:
        client.post(f"/api/v1/tasks/{submit(client)}/cancel")
        assert by_status(client) == {"CANCELLED": 1}
        found = get(client, "tasks")
        assert found["success_rate"] is None
        assert found["waiting_seconds"] == {"mean": None, "p50": None, "p95": None, "p99": None}

    def test_children_of_a_failed_task_count(self, client: FlaskClient, database: Database, doorbell: Doorbell) -> None:
        parent = submit(client)
        submit(client, depends_on=[parent])
        ended = hand.finish(database, parent, status="FAILED", error=NO)
        Followups(database, doorbell).after(ended)
        assert get(client, "tasks")["error_codes"] == {"provider_error": 1, "dependency_failed": 1}

    def test_lost_tasks_count(self, client: FlaskClient, database: Database) -> None:
        task_id, worker = submit(client, max_retries=0), hand.register(database)
        hand.claim(database, worker, [task_id])
        with database.transaction() as session:
            session.all("give_up_workers", {"ids": [worker]})
            hooks.run(session, session.all("recover_lost", {"error": Json(WORKER_LOST.as_json())}))
        found = get(client, "tasks")
        assert found["error_codes"] == {"worker_lost": 1}
        assert found["running_seconds"]["mean"] is None

    def test_tasks_that_were_to_be_cancelled_count_when_they_are_handed_back(
        self, client: FlaskClient, database: Database, configured: Settings
    ) -> None:
        task_id = submit(client)
        (row,) = hand.claim(database, hand.register(database), [task_id])
        client.post(f"/api/v1/tasks/{task_id}/cancel")

        async def hand_back() -> None:
            async with AsyncDatabase(configured.database_url, max_size=1).opened() as connections:
                await Recorder(connections, "w", lambda _: None).hand_back([(task_id, row["fence"])])

        asyncio.run(hand_back())
        assert by_status(client) == {"CANCELLED": 1}

    def test_results_from_before_count(self, client: FlaskClient, database: Database) -> None:
        hand.finish(database, submit(client))
        submit(client, cache_ttl=60)
        assert by_status(client) == {"COMPLETED": 2}

    def test_a_task_that_is_retried_by_hand_ends_twice(self, client: FlaskClient, database: Database) -> None:
        task_id = submit(client)
        hand.finish(database, task_id, status="FAILED", error=NO)
        assert client.post(f"/api/v1/tasks/{task_id}/retry").status_code == 200
        hand.finish(database, task_id)
        assert by_status(client) == {"COMPLETED": 1, "FAILED": 1}

    def test_attempts_that_are_retried_are_no_ends(self, client: FlaskClient, database: Database) -> None:
        task_id, worker = submit(client), hand.register(database)
        (row,) = hand.claim(database, worker, [task_id])
        hand.record(database, (task_id, row["fence"], "RETRYING"))
        assert by_status(client) == {}

    def test_times_are_those_of_the_tasks(self, client: FlaskClient, database: Database) -> None:
        ids, worker = [submit(client) for _ in range(4)], hand.register(database)
        claims = hand.claim(database, worker, ids)
        with database.transaction() as session:
            session.run("UPDATE tasks SET waited_seconds = 7, started_at = now() - interval '300 seconds'")
        hand.record(database, *((row["id"], row["fence"], "COMPLETED") for row in claims))
        found = get(client, "tasks")
        for name, seconds in (("waiting_seconds", 7), ("running_seconds", 300)):
            assert found[name] == {key: pytest.approx(seconds, rel=0.06) for key in ("mean", "p50", "p95", "p99")}

    def test_task_types_are_told_apart(self, client: FlaskClient, database: Database) -> None:
        hand.finish(database, submit(client))
        report = client.post("/api/v1/tasks", json={"task_type": "monitoring_report"}).get_json()
        hand.finish(database, report["id"], status="FAILED", error=NO)
        for _ in range(2):
            found = get(client, "tasks?task_type=monitoring_report")
            assert (found["task_type"], found["total_tasks"], found["success_rate"]) == ("monitoring_report", 1, 0.0)
            assert get(client, "tasks?task_type=nothing")["total_tasks"] == 0
            statistics.fold(database)


class TestReplica:
    """What ended is read where STATISTICS_DATABASE_URL says, and nothing is written there."""

    def test_it_answers(self, configured: Settings, client: FlaskClient, database: Database) -> None:
        hand.finish(database, submit(client))
        read_only = f"{configured.database_url}?options=-cdefault_transaction_read_only%3Don"
        app = create_app(replace(configured, statistics_database_url=read_only))
        asking = app.test_client()
        try:
            assert get(asking, "tasks")["total_tasks"] == 1
            assert sum(hour["total_tasks"] for hour in get(asking, "trends")["trends"]) == 1
            assert get(asking, "costs")["total"]["tasks"] == get(client, "costs")["total"]["tasks"]
            assert asking.post("/api/v1/tasks", json={"prompt": "p", "model": "m"}).status_code == 201
        finally:
            close(app)

    def test_while_it_is_away_all_else_answers(self, configured: Settings) -> None:
        app = create_app(replace(configured, statistics_database_url="postgresql://127.0.0.1:1/x"))
        asking = app.test_client()
        try:
            assert asking.get("/api/v1/stats/tasks").status_code == 503
            assert asking.get("/api/v1/stats/realtime").status_code == 200
        finally:
            close(app)


class TestTrends:
    def test_every_hour_is_there_the_running_one_last(self, client: FlaskClient, database: Database) -> None:
        hand.finish(database, submit(client))
        with database.transaction() as session:
            session.run("UPDATE tasks SET completed_at = now() - interval '5 hours'")
            session.all("count_ended", {"ids": [row["id"] for row in session.run("SELECT id FROM tasks")]})
        for _ in range(2):
            hours = get(client, "trends")["trends"]
            ends = {row["hour"]: row["total_tasks"] for row in hours}
            this = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
            span = [this - timedelta(hours=back) for back in range(23, -1, -1)]
            assert [datetime.fromisoformat(hour) for hour in ends] == span
            assert [count for count in ends.values() if count] == [1, 1]
            assert [row["success_rate"] for row in hours].count(1.0) == 2
            assert [row["success_rate"] for row in hours].count(None) == 22
            statistics.fold(database)
        assert len(get(client, "trends?hours=3")["trends"]) == 3

    @pytest.mark.parametrize("folded", [False, True])
    def test_an_hour_that_begins_meanwhile_is_left_out(
        self, client: FlaskClient, database: Database, *, folded: bool
    ) -> None:
        """As when the hour turns between the clock's answer and PostgreSQL's, or when PostgreSQL's clock is ahead."""
        hand.finish(database, submit(client))
        with database.transaction() as session:
            session.run("UPDATE tasks SET completed_at = now() + interval '1 hour'")
            session.all("count_ended", {"ids": [row["id"] for row in session.run("SELECT id FROM tasks")]})
        if folded:
            statistics.fold(database)
        hours = get(client, "trends?hours=2")["trends"]
        assert [row["total_tasks"] for row in hours] == [0, 1]
        assert client.get("/trends").status_code == client.get("/trends/hours.csv").status_code == 200

    def test_each_hour_has_its_throughput(self, client: FlaskClient, database: Database) -> None:
        hand.finish(database, *(submit(client) for _ in range(3)))
        with database.transaction() as session:
            session.run("UPDATE ends_new SET hour = hour - interval '1 hour'")
        hand.finish(database, submit(client))
        before, running = get(client, "trends?hours=2")["trends"]
        assert (before["total_tasks"], before["throughput_per_minute"]) == (3, 0.05)
        # A minute, or as much of the hour as has passed.
        assert 1 / 60 - 1e-4 <= running["throughput_per_minute"] <= 1
        assert get(client, "trends?task_type=none")["trends"][0]["throughput_per_minute"] == 0


class TestCosts:
    def test_money_follows_the_price_list_and_what_has_no_price_is_named(
        self, priced: FlaskClient, database: Database
    ) -> None:
        account = priced.post("/api/v1/accounts", json={"name": "a"}).get_json()["id"]
        article = {"task_type": "content_generation", "input": {"account_id": account, "topic": "t"}, "model": "dear"}
        written = priced.post("/api/v1/tasks", json=article).get_json()["id"]
        hand.finish(database, written, usage=USAGE, result={"title": "t", "body": "b", "summary": "s"})
        hand.finish(database, submit(priced, model="dear"), usage=USAGE)
        hand.finish(database, submit(priced, model="free"), usage=USAGE)
        hand.finish(database, submit(priced, model="dear"))  # no usage: no tokens
        before = get(priced, "costs")
        assert before["currency"] == "EUR"
        assert before["unpriced_models"] == ["free"]
        tokens = {"prompt_tokens": 300, "completion_tokens": 60, "total_tokens": 360}
        assert before["total"] == {"tasks": 3, **tokens, "money": 4.0, "unpriced_tokens": 120}
        money = {row["model"]: row["money"] for row in before["by_model"]}
        assert money == {"dear": 4.0, "free": None}
        assert {row["account_id"]: row["money"] for row in before["by_account"]} == {account: 2.0, None: 2.0}
        assert {row["task_type"]: row["tasks"] for row in before["by_task_type"]} == {
            "text_generation": 2, "content_generation": 1,
        }  # fmt: skip
        (today,) = before["by_day"]
        assert (today["day"], today["total_tokens"]) == (datetime.now(UTC).date().isoformat(), 360)
        statistics.fold(database)
        assert get(priced, "costs") == before
        assert get(priced, "costs?days=1") == {**before, "since": today["day"]}

    def test_days_before_the_span_are_left_out(self, client: FlaskClient, database: Database) -> None:
        hand.finish(database, submit(client), usage=USAGE)
        with database.transaction() as session:
            session.run("UPDATE tokens_new SET day = day - 2")
        assert get(client, "costs?days=2")["total"]["tasks"] == 0
        assert get(client, "costs?days=3")["total"]["tasks"] == 1
        assert get(client, "costs?hours=48")["total"]["tasks"] == 1

    @pytest.mark.parametrize(
        "usage",
        [{"prompt_tokens": "many"}, {"prompt_tokens": -5}, {"prompt_tokens": None}, {"prompt_tokens": [1]}, {"x": 1}],
    )
    def test_odd_usage_counts_as_none(self, usage: dict[str, Any], client: FlaskClient, database: Database) -> None:
        hand.finish(database, submit(client), usage=usage)
        total = get(client, "costs")["total"]
        assert (total["tasks"], total["prompt_tokens"]) == (1, 0)

    def test_tokens_are_those_of_the_model_that_took_them(self, client: FlaskClient, database: Database) -> None:
        fallback = {"prompt_tokens": 7, "by_model": {"m": {"prompt_tokens": 3}, "other": {"prompt_tokens": 4}}}
        only = {"prompt_tokens": 5, "by_model": {"other": {"prompt_tokens": 5}}}
        for usage in (fallback, only, {"prompt_tokens": 1, "by_model": 5}):
            hand.finish(database, submit(client), usage=usage)
        found = get(client, "costs")
        rows = {row["model"]: (row["tasks"], row["prompt_tokens"]) for row in found["by_model"]}
        assert rows == {"m": (2, 4), "other": (1, 9)}
        assert found["total"]["tasks"] == 3

    def test_absurd_usage_is_bounded(self, client: FlaskClient, database: Database) -> None:
        hand.finish(database, submit(client), usage={"prompt_tokens": 1e300, "completion_tokens": 1.6})
        total = get(client, "costs")["total"]
        assert (total["prompt_tokens"], total["completion_tokens"]) == (10**12, 2)


class TestRealtime:
    def test_queues_running_tasks_and_workers(self, client: FlaskClient, database: Database) -> None:
        first = submit(client, priority=9)
        submit(client, priority=9)
        submit(client, priority=1, delay_seconds=600)
        submit(client, depends_on=[first])
        worker = hand.register(database, "busy")
        hand.claim(database, worker, [first])
        database.all("beat", {"id": worker, "running": 3})
        found = get(client, "realtime")
        assert found["running_tasks"] == 1
        assert found["running_by_type"] == {"text_generation": 1}
        assert found["running_by_queue"] == {"high": 1, "default": 0, "low": 0}
        assert found["blocked_tasks"] == 1
        high = found["queues"]["high"]
        assert (high["depth"], high["delayed"]) == (1, 0)
        assert high["oldest_age_seconds"] >= 0
        assert found["queues"]["low"] == {"depth": 0, "delayed": 1, "oldest_age_seconds": None}
        (shown,) = found["workers"]
        assert (shown["name"], shown["running"], shown["capacity"], shown["load"]) == ("busy", 3, 9, 0.3333)
        assert set(found["system_resources"]) == {"cpu_usage_percent", "memory_usage_mb"}

    def test_age_is_that_of_the_task_that_could_have_been_started_first(
        self, client: FlaskClient, database: Database
    ) -> None:
        submit(client)
        submit(client)
        with database.transaction() as session:
            session.run(
                "UPDATE tasks SET ready_at = now() - interval '90 seconds' WHERE id = (SELECT min(id) FROM tasks)"
            )
        assert get(client, "realtime")["queues"]["default"]["oldest_age_seconds"] == pytest.approx(90, abs=20)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("tasks?hours=0", "hours"),
        ("tasks?hours=745", "hours"),
        ("tasks?hours=x", "hours"),
        ("tasks?task_type=", "task_type"),
        ("tasks?task_type=%00", "task_type"),
        ("tasks?colour=red", "colour"),
        ("trends?hours=169", "hours"),
        ("trends?hours=1.5", "hours"),
        ("costs?days=0", "days"),
        ("costs?days=401", "days"),
        ("costs?days=1&hours=1", "hours"),
        ("costs?hours=99999999999999999999", "hours"),
    ],
)
def test_wrong_parameters_are_named(path: str, field: str, client: FlaskClient) -> None:
    answer = client.get(f"/api/v1/stats/{path}")
    assert answer.status_code == 422
    assert field in answer.get_json()["errors"]["query"]


def test_reports_tell_the_same_as_the_api(
    client: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch, configured: Settings
) -> None:
    hand.finish(database, submit(client), usage=USAGE)
    hand.finish(database, submit(client), status="FAILED", error=NO)
    monkeypatch.setenv("DATABASE_URL", configured.database_url)
    context = context_for(input={"hours": 2})
    report, costs = monitoring_report(context), cost_statistics(context)
    context.database.close()
    assert orjson.loads(orjson.dumps([report, costs]))  # as the worker stores them
    assert (report["hours"], report["total_tasks"], report["success_rate"]) == (2, 2, 0.5)
    assert [(row["task_type"], row["total_tasks"]) for row in report["task_types"]] == [("text_generation", 2)]
    assert report["costs"]["total"] == costs["total"] == get(client, "costs?hours=2")["total"]
    assert report["now"]["running_tasks"] == 0


def test_old_numbers_go_but_not_the_sums_since_ever(app: Flask, client: FlaskClient, database: Database) -> None:
    hand.finish(database, submit(client), usage=USAGE)
    statistics.fold(database)
    ever = {name: database.all(name) for name in ("ends_ever", "durations_ever", "tokens_ever")}
    assert all(ever.values())
    database.all("forget_statistics", {"days": 1})
    assert by_status(client) == {"COMPLETED": 1}
    with database.transaction() as session:
        session.run("UPDATE ends_summed SET hour = hour - interval '3 days' WHERE hour > '-infinity'")
        session.run("UPDATE durations_summed SET hour = hour - interval '3 days' WHERE hour > '-infinity'")
        session.run("UPDATE tokens_summed SET day = day - 3 WHERE day > '-infinity'")
    assert get(client, "tasks?hours=100")["total_tasks"] == 1
    database.all("forget_statistics", {"days": 1})
    assert get(client, "tasks?hours=100") | {"since": None, "throughput_per_minute": 0} == get(
        client, "tasks?hours=1&task_type=none"
    ) | {"since": None, "task_type": None}
    assert get(client, "costs")["total"]["tasks"] == 0
    assert {name: database.all(name) for name in ever} == ever


def test_a_price_of_nothing_is_a_price(database: Database, client: FlaskClient) -> None:
    hand.finish(database, submit(client), usage=USAGE)
    costs = statistics.costs(database, Prices(by_model={"m": Price(0, 0)}), datetime.now(UTC).date())
    assert (costs["total"]["money"], costs["unpriced_models"]) == (0.0, [])
