"""Schedules over HTTP, and their firings; time is made to pass in the database."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import redis
import structlog
from flask import Flask
from flask.testing import FlaskClient
from marshmallow import ValidationError
from psycopg.errors import CheckViolation

from api import services
from jobs.reconcile import Reconciler
from jobs.store.database import Database
from scheduler.clock import Clock
from scheduler.executors import EXECUTORS
from scheduler.firing import Firer
from scheduler.schedules import Schedules

DAILY: dict[str, Any] = {
    "name": "Daily content",
    "description": "Every day at 8",
    "task_type": "async_content_generation",
    "cron_expression": "0 8 * * *",
    "timezone": "Asia/Shanghai",
    "params": {
        "account_ids": [49, 50, 51],
        "count_per_account": 2,
        "category": "tech",
        "auto_approve": False,
        "priority": 8,
    },
    "is_active": True,
    "misfire_policy": "fire_once",
    "overlap_policy": "skip",
}
HOURLY: dict[str, Any] = {
    "name": "Every two hours",
    "task_type": "submit_task",
    "cron_expression": None,
    "interval": 2,
    "interval_unit": "hours",
    "params": {"prompt": "p", "model": "m"},
}


@pytest.fixture
def firer(app: Flask) -> Firer:
    return services.get().firer


@pytest.fixture
def schedules(app: Flask) -> Schedules:
    return services.get().schedules


def create(client: FlaskClient, facts: dict[str, Any] = HOURLY, **change: Any) -> dict[str, Any]:
    answer = client.post("/api/v1/scheduler/tasks", json={**facts, **change})
    assert answer.status_code == 201, answer.get_json()
    made: dict[str, Any] = answer.get_json()
    return made


def accounts(client: FlaskClient, *ids: int) -> None:
    for number in ids:
        assert client.post("/api/v1/accounts", json={"id": number, "name": f"账号{number}"}).status_code == 201


def passed(database: Database, schedule_id: int, seconds: float) -> None:
    """Let the schedule's next slot have been so long ago, and its intervals be counted from there."""
    with database.transaction() as session:
        session.run(
            "UPDATE schedules SET anchor = now() - make_interval(secs => %(s)s),"
            " next_slot = now() - make_interval(secs => %(s)s) WHERE id = %(id)s",
            {"id": schedule_id, "s": seconds},
        )


def fire(firer: Firer) -> None:
    """What the scheduler process does when it looks."""
    firer.note_due()
    firer.fire(firer.ready(1000))


def executions(client: FlaskClient, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(
        "/api/v1/scheduler/executions", query_string={"sort": "scheduled_for", **query}
    ).get_json()
    return found


class TestResource:
    def test_life_of_a_schedule(self, client: FlaskClient, redis_client: "redis.Redis") -> None:
        answer = client.post("/api/v1/scheduler/tasks", json=DAILY)
        assert answer.status_code == 201
        url, made = answer.headers["Location"], answer.get_json()
        assert {name: made[name] for name in DAILY} == DAILY
        assert made["next_run_at"].endswith("T00:00:00Z")
        assert made["last_run_at"] is None
        entry = f"schedule-{made['id']}"
        assert redis_client.zscore("rq:scheduler:scheduled_jobs", entry)
        changed = client.patch(url, json={"interval": 2, "interval_unit": "hours"}).get_json()
        assert (changed["cron_expression"], changed["interval"]) == (None, 2)
        replaced = client.put(url, json={**HOURLY, "overlap_policy": "queue"}).get_json()
        assert (replaced["name"], replaced["overlap_policy"], replaced["timezone"]) == (HOURLY["name"], "queue", "UTC")
        paused = client.post(f"{url}/pause").get_json()
        assert (paused["is_active"], paused["next_run_at"]) == (False, None)
        assert client.post(f"{url}/resume").get_json()["next_run_at"]
        assert [row["id"] for row in client.get("/api/v1/scheduler/tasks").get_json()] == [made["id"]]
        assert client.delete(url).status_code == 204
        assert client.get(url).status_code == 404
        assert redis_client.zscore("rq:scheduler:scheduled_jobs", entry) is None

    def test_changing_what_is_not_about_time_keeps_the_next_slot(self, client: FlaskClient) -> None:
        made = create(client)
        url = f"/api/v1/scheduler/tasks/{made['id']}"
        assert client.patch(url, json={"name": "other"}).get_json()["next_run_at"] == made["next_run_at"]

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"interval": 2, "interval_unit": "hours"}, "cron_expression"),
            ({"cron_expression": None}, "cron_expression"),
            ({"cron_expression": "0 8 * *"}, "cron_expression"),
            ({"cron_expression": "61 8 * * *"}, "cron_expression"),
            ({"cron_expression": "0," * 250 + "0 8 * * *"}, "cron_expression"),
            ({"cron_expression": "0 0 31 2 *"}, "cron_expression"),
            ({"cron_expression": None, "interval": 2}, "interval_unit"),
            ({"interval_unit": "hours"}, "interval_unit"),
            ({"cron_expression": None, "interval": 2, "interval_unit": "months"}, "interval_unit"),
            ({"cron_expression": None, "interval": 0, "interval_unit": "hours"}, "interval"),
            ({"timezone": "Mars/Olympus"}, "timezone"),
            ({"timezone": "../etc/passwd"}, "timezone"),
            ({"timezone": ""}, "timezone"),
            ({"task_type": "no_such_executor"}, "task_type"),
            ({"params": {}}, "params"),
            ({"params": {"account_ids": []}}, "params"),
            ({"params": {"account_ids": ["49"], "count_per_account": 1}}, "params"),
            ({"params": {"account_ids": [49]}}, "params"),
            ({"params": {"account_ids": [49], "count_per_account": 1, "surprise": 1}}, "params"),
            ({"params": {"account_ids": [49], "count_per_account": 1, "priority": 11}}, "params"),
            ({"misfire_policy": "panic"}, "misfire_policy"),
            ({"overlap_policy": "maybe"}, "overlap_policy"),
            ({"starts_at": "2030-01-02T00:00:00Z", "ends_at": "2030-01-01T00:00:00Z"}, "ends_at"),
            ({"timezone": "localtime"}, "timezone"),
            ({"cron_expression": None, "interval": 1_000_000, "interval_unit": "weeks"}, "interval"),
            ({"params": {"account_ids": list(range(1, 1001)), "count_per_account": 101}}, "params"),
            ({"name": ""}, "name"),
            ({"colour": "red"}, "colour"),
        ],
    )
    def test_whatever_is_wrong_gets_422_naming_the_field(
        self, change: dict[str, Any], field: str, client: FlaskClient
    ) -> None:
        answer = client.post("/api/v1/scheduler/tasks", json={**DAILY, **change})
        assert answer.status_code == 422, answer.get_json()
        assert list(answer.get_json()["errors"]["json"]) == [field]
        assert client.get("/api/v1/scheduler/tasks").get_json() == []
        url = f"/api/v1/scheduler/tasks/{create(client, DAILY)['id']}"
        assert client.put(url, json={**DAILY, **change}).status_code == 422
        assert client.get(url).get_json()["params"] == DAILY["params"]

    def test_a_change_that_does_not_fit_the_rest_is_refused(self, client: FlaskClient) -> None:
        url = f"/api/v1/scheduler/tasks/{create(client, DAILY)['id']}"
        for change in ({"task_type": "submit_task"}, {"interval_unit": "hours"}, {"cron_expression": None}):
            assert client.patch(url, json=change).status_code == 422

    def test_preview_shows_local_and_utc_times(self, client: FlaskClient) -> None:
        url = f"/api/v1/scheduler/tasks/{create(client, DAILY)['id']}/preview"
        slots = client.get(f"{url}?count=3").get_json()
        assert len(slots) == 3
        for slot in slots:
            assert slot["local"].endswith("T08:00:00+08:00")
            assert slot["utc"].endswith("T00:00:00Z")
        assert len(client.get(url).get_json()) == 10
        assert client.get(f"{url}?count=0").status_code == 422

    def test_executors_are_listed_with_their_schemas(self, client: FlaskClient) -> None:
        answer = client.get("/api/v1/scheduler/executors")
        found = {executor["name"]: executor for executor in answer.get_json()}
        assert answer.headers["X-Total-Count"] == str(len(found))
        assert set(found) == {
            "async_content_generation", "cleanup", "cost_statistics", "daily_life", "database_backup",
            "monitoring_report", "submit_task",
        }  # fmt: skip
        assert found["async_content_generation"]["params_schema"]["required"] == ["account_ids"]
        assert "$ref" not in str(found)

    def test_built_in_schedules_come_once_and_stay(self, client: FlaskClient, schedules: Schedules) -> None:
        for _ in range(2):
            schedules.add_builtin()
        found = client.get("/api/v1/scheduler/tasks?sort=id").get_json()
        assert [(row["task_type"], row["cron_expression"]) for row in found] == [
            ("database_backup", "0 2 * * *"),
            ("cleanup", "30 3 * * *"),
        ]
        assert client.delete(f"/api/v1/scheduler/tasks/{found[0]['id']}").status_code == 409
        assert client.post(f"/api/v1/scheduler/tasks/{found[0]['id']}/pause").status_code == 200


class TestContentGeneration:
    def test_a_firing_has_the_documented_result(self, client: FlaskClient) -> None:
        accounts(client, 49, 50, 51)
        schedule = create(client, DAILY)
        answer = client.post(f"/api/v1/scheduler/tasks/{schedule['id']}/trigger")
        assert answer.status_code == 201
        execution = answer.get_json()
        assert (execution["status"], execution["trigger"], execution["schedule_id"]) == (
            "COMPLETED",
            "manual",
            schedule["id"],
        )
        result = execution["result"]
        assert result["success"] is True
        assert result["message"] == "Successfully submitted 6 async tasks for 3 accounts"
        assert result["duration"] >= 0
        data = result["data"]
        assert (data["total_submitted"], data["total_failed"], data["errors"]) == (6, 0, [])
        assert data["account_stats"]["49"] == {"account_name": "账号49", "success": 2, "failed": 0, "total": 2}
        first = data["tasks"][0]
        assert (first["account_id"], first["account_name"], first["category"]) == (49, "账号49", "tech")
        task = client.get(f"/api/v1/tasks/{first['task_id']}").get_json()
        assert (task["task_type"], task["priority"], task["queue"]) == ("content_generation", 8, "high")
        assert task["input"] == {"account_id": 49, "auto_approve": False, "category": "tech"}
        assert (task["max_retries"], task["timeout_seconds"], task["execution_id"]) == (3, 300, execution["id"])
        assert task["retry"] == {"strategy": "exponential", "base_delay": 60.0, "max_delay": 600.0, "jitter": True}

    def test_one_accounts_failure_does_not_stop_the_others(self, client: FlaskClient) -> None:
        accounts(client, 49, 51)
        url = f"/api/v1/scheduler/tasks/{create(client, DAILY)['id']}/trigger"
        data = client.post(url).get_json()["result"]["data"]
        assert (data["total_submitted"], data["total_failed"]) == (4, 2)
        assert data["errors"] == [{"account_id": 50, "error": "There is no such account."}]
        assert data["account_stats"]["50"] == {"account_name": None, "success": 0, "failed": 2, "total": 2}

    def test_a_firing_that_could_submit_nothing_has_failed(self, client: FlaskClient) -> None:
        url = f"/api/v1/scheduler/tasks/{create(client, DAILY)['id']}/trigger"
        execution = client.post(url).get_json()
        assert (execution["status"], execution["error"]["code"]) == ("FAILED", "nothing_submitted")
        assert len(execution["result"]["data"]["errors"]) == 3

    def test_topics_are_written_about_in_turn(self, client: FlaskClient) -> None:
        accounts(client, 49)
        topics = [{"topic": "A", "keywords": ["k"], "tone": "dry"}, {"topic": "B", "requirements": "long"}]
        params = {"account_ids": [49, 49], "topics": topics}
        url = f"/api/v1/scheduler/tasks/{create(client, DAILY, params=params)['id']}/trigger"
        data = client.post(url).get_json()["result"]["data"]
        assert [task["topic"] for task in data["tasks"]] == ["A", "B"]
        task = client.get(f"/api/v1/tasks/{data['tasks'][0]['task_id']}").get_json()
        assert task["input"] == {
            "account_id": 49, "auto_approve": True, "topic": "A", "keywords": ["k"], "tone": "dry"
        }  # fmt: skip

    def test_a_large_firing_is_submitted_whole(self, client: FlaskClient) -> None:
        accounts(client, *range(1, 11))
        params = {"account_ids": list(range(1, 11)), "count_per_account": 120}
        url = f"/api/v1/scheduler/tasks/{create(client, DAILY, params=params)['id']}/trigger"
        data = client.post(url).get_json()["result"]["data"]
        assert data["total_submitted"] == 1200
        assert len({task["task_id"] for task in data["tasks"]}) == 1200

    def test_why_an_account_was_skipped_is_logged_without_what_was_to_be_stored(
        self, app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise CheckViolation("violates a constraint\nDETAIL:  Failing row contains (the customer's words)")

        accounts(client, 49, 50, 51)
        monkeypatch.setattr(services.get().submitter, "insert", refuse)
        url = f"/api/v1/scheduler/tasks/{create(client, DAILY)['id']}/trigger"
        with structlog.testing.capture_logs() as logs:
            client.post(url)
        skipped = [line for line in logs if line["event"] == "account skipped"]
        assert [(line["account_id"], line["reason"]) for line in skipped] == [
            (49, "CheckViolation"), (50, "CheckViolation"), (51, "CheckViolation"),
        ]  # fmt: skip


class TestFiring:
    def test_no_key_of_a_callers_stands_in_its_way(self, client: FlaskClient) -> None:
        for number in range(10):
            key = {"unique_key": f"execution:{number}:0"}
            assert client.post("/api/v1/tasks", json={"prompt": "p", "model": "m", **key}).status_code == 201
        execution = client.post(f"/api/v1/scheduler/tasks/{create(client)['id']}/trigger").get_json()
        assert execution["status"] == "COMPLETED"
        (made,) = execution["result"]["data"]["tasks"]
        assert client.get(f"/api/v1/tasks/{made['task_id']}").get_json()["execution_id"] == execution["id"]

    def test_what_the_input_leaves_out_has_its_types_defaults(self, client: FlaskClient) -> None:
        params = {"task_type": "embedding", "input": {"texts": ["a"]}}
        schedule = create(client, HOURLY, params=params)
        fired = client.post(f"/api/v1/scheduler/tasks/{schedule['id']}/trigger").get_json()
        (task,) = client.get("/api/v1/tasks?task_type=embedding").get_json()
        assert fired["status"] == "COMPLETED"
        assert task["input"] == {"texts": ["a"], "collection": "default"}

    def test_a_slot_fires_once_however_many_look(self, client: FlaskClient, database: Database, firer: Firer) -> None:
        schedule = create(client)
        passed(database, schedule["id"], 1)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda _: fire(firer), range(16)))
        (execution,) = executions(client)
        assert (execution["status"], execution["trigger"]) == ("COMPLETED", "schedule")
        assert 0.5 < execution["late_seconds"] < 10
        assert len(client.get("/api/v1/tasks").get_json()) == 1
        after = client.get(f"/api/v1/scheduler/tasks/{schedule['id']}").get_json()
        assert after["last_run_at"] == execution["scheduled_for"]
        assert after["next_run_at"] > execution["scheduled_for"]

    def test_a_firing_that_broke_off_is_done_whole_the_next_time(
        self, client: FlaskClient, database: Database, firer: Firer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        accounts(client, 49, 50, 51)
        passed(database, create(client, DAILY)["id"], 1)
        firer.note_due()
        (execution_id,) = firer.ready(10)

        class Died(BaseException):
            pass

        def die(*_: Any, **__: Any) -> None:
            raise Died

        with monkeypatch.context() as crash:
            crash.setattr("scheduler.firing._finish", die)
            with pytest.raises(Died):
                firer.fire([execution_id])
        assert client.get("/api/v1/tasks").get_json() == []
        firer.fire([execution_id])
        firer.fire([execution_id])
        assert len(client.get("/api/v1/tasks").get_json()) == 6

    def test_why_it_did_not_run_has_an_answer(self, client: FlaskClient, database: Database, firer: Firer) -> None:
        paused = create(client, is_active=False)
        missed = create(client, misfire_policy="skip")
        working = create(client)
        client.post(f"/api/v1/scheduler/tasks/{working['id']}/trigger")
        passed(database, paused["id"], 1)
        passed(database, missed["id"], 60)
        passed(database, working["id"], 1)
        fire(firer)
        reasons = {row["schedule_id"]: row["reason"] for row in executions(client, status="SKIPPED")}
        assert reasons == {paused["id"]: "paused", missed["id"]: "misfire_policy", working["id"]: "overlap"}
        assert all(row["detail"] for row in executions(client, status="SKIPPED"))

    def test_slots_that_passed_before_a_change_are_on_the_record(
        self, client: FlaskClient, database: Database, firer: Firer
    ) -> None:
        schedule = create(client, interval_unit="minutes", misfire_policy="fire_all", overlap_policy="allow")
        passed(database, schedule["id"], 5 * 60)
        client.patch(f"/api/v1/scheduler/tasks/{schedule['id']}", json={"cron_expression": "0 8 * * *"})
        assert len(executions(client)) == 3

    def test_another_firing_that_still_works_counts_too(
        self, client: FlaskClient, database: Database, firer: Firer
    ) -> None:
        schedule = create(client)
        url = f"/api/v1/scheduler/tasks/{schedule['id']}/trigger"
        client.post(url)
        newer = client.post(url).get_json()["result"]["data"]["tasks"][0]["task_id"]
        client.post(f"/api/v1/tasks/{newer}/cancel")
        passed(database, schedule["id"], 1)
        fire(firer)
        assert [row["reason"] for row in executions(client, trigger="schedule")] == ["overlap"]

    def test_a_day_is_that_of_the_schedules_zone(self, client: FlaskClient, database: Database, firer: Firer) -> None:
        daily = create(client, task_type="daily_life", params={}, timezone="Pacific/Kiritimati")
        client.post(f"/api/v1/scheduler/tasks/{daily['id']}/trigger")
        (task,) = client.get("/api/v1/tasks").get_json()
        here = datetime.now(ZoneInfo("Pacific/Kiritimati")).date()
        # Unless midnight has just passed there.
        assert task["input"]["target_date"] in (here.isoformat(), (here - timedelta(days=1)).isoformat())

    def test_queued_firings_run_one_after_another(self, client: FlaskClient, database: Database, firer: Firer) -> None:
        schedule = create(client, interval_unit="seconds", overlap_policy="queue")
        passed(database, schedule["id"], 5)
        fire(firer)
        assert [row["status"] for row in executions(client)] == ["COMPLETED", "PENDING", "PENDING"]
        fire(firer)
        assert [row["status"] for row in executions(client)] == ["COMPLETED", "PENDING", "PENDING"]
        for task in client.get("/api/v1/tasks").get_json():
            client.post(f"/api/v1/tasks/{task['id']}/cancel")
        fire(firer)
        assert [row["status"] for row in executions(client)][:2] == ["COMPLETED", "COMPLETED"]

    def test_fire_all_makes_up_for_what_was_missed(self, client: FlaskClient, database: Database, firer: Firer) -> None:
        schedule = create(client, interval_unit="minutes", misfire_policy="fire_all", overlap_policy="allow")
        passed(database, schedule["id"], 10 * 60 + 30)
        fire(firer)
        assert [row["status"] for row in executions(client)] == ["COMPLETED"] * 6
        assert len(client.get("/api/v1/tasks").get_json()) == 6

    @pytest.mark.parametrize("error", [RuntimeError, KeyError, ValidationError])
    def test_an_executor_that_raises_is_recorded_and_keeps_nothing(
        self, error: type[Exception], client: FlaskClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(firing: Any) -> Any:
            firing.submit([{"task_type": "text_generation", "prompt": "p", "model": "m"}])
            raise error("secret detail")

        monkeypatch.setitem(EXECUTORS, "submit_task", replace(EXECUTORS["submit_task"], run=broken))
        execution = client.post(f"/api/v1/scheduler/tasks/{create(client)['id']}/trigger").get_json()
        assert (execution["status"], execution["error"]["code"]) == ("FAILED", "executor_error")
        assert "secret detail" not in str(execution)
        assert client.get("/api/v1/tasks").get_json() == []

    @pytest.mark.parametrize(
        ("executor", "params", "task_type"),
        [
            ("submit_task", {"task_type": "cost_statistics", "input": {"hours": 1}}, "cost_statistics"),
            ("daily_life", {"persona": "a baker", "days_ahead": 1}, "daily_life"),
            ("database_backup", {"keep_days": 3}, "database_backup"),
            ("cleanup", {}, "cleanup"),
            ("cost_statistics", {"hours": 5}, "cost_statistics"),
            ("monitoring_report", {}, "monitoring_report"),
        ],
    )
    def test_every_executor_submits_its_task(
        self, executor: str, params: dict[str, Any], task_type: str, client: FlaskClient
    ) -> None:
        schedule = create(client, task_type=executor, params=params)
        execution = client.post(f"/api/v1/scheduler/tasks/{schedule['id']}/trigger").get_json()
        assert execution["status"] == "COMPLETED", execution
        (task,) = client.get("/api/v1/tasks").get_json()
        assert task["task_type"] == task_type
        assert execution["result"]["data"]["tasks"] == [{"task_id": task["id"], "task_type": task_type}]

    def test_a_schedule_that_became_impossible_does_not_stop_the_others(
        self, client: FlaskClient, database: Database, firer: Firer
    ) -> None:
        broken, good = create(client, DAILY), create(client)
        passed(database, good["id"], 1)
        with database.transaction() as session:
            session.run(
                "UPDATE schedules SET timezone = 'Gone/Zone', next_slot = now() - interval '1 s' WHERE id = %(id)s",
                {"id": broken["id"]},
            )
        fire(firer)
        (skipped,) = executions(client, schedule_id=broken["id"])
        assert (skipped["status"], skipped["reason"]) == ("SKIPPED", "impossible")
        assert [row["status"] for row in executions(client, schedule_id=good["id"])] == ["COMPLETED"]

    def test_executions_can_be_found(self, client: FlaskClient, database: Database, firer: Firer) -> None:
        one, two = create(client), create(client)
        passed(database, one["id"], 1)
        fire(firer)
        client.post(f"/api/v1/scheduler/tasks/{two['id']}/trigger")
        assert [row["schedule_id"] for row in executions(client, schedule_id=one["id"])] == [one["id"]]
        assert [row["schedule_id"] for row in executions(client, trigger="manual")] == [two["id"]]
        assert len(executions(client, status="COMPLETED")) == 2
        assert executions(client, scheduled_after="2100-01-01T00:00:00Z") == []
        (row,) = executions(client, schedule_id=one["id"])
        assert client.get(f"/api/v1/scheduler/executions/{row['id']}").get_json() == row
        assert client.get("/api/v1/scheduler/executions/4711").status_code == 404


class TestClockEntries:
    def test_they_follow_the_schedules(
        self, client: FlaskClient, schedules: Schedules, redis_client: "redis.Redis"
    ) -> None:
        ids = [create(client)["id"] for _ in range(3)]
        redis_client.delete("rq:scheduler:scheduled_jobs")
        schedules.compare_with_clock()
        doorbell = services.get().doorbell
        carried = doorbell.carried_schedules(ids)
        assert set(carried) == set(ids)
        redis_client.zadd("rq:scheduler:scheduled_jobs", {f"schedule-{ids[0]}": 5, "77": 5})
        schedules.compare_with_clock()
        assert doorbell.carried_schedules(ids) == carried
        assert redis_client.zscore("rq:scheduler:scheduled_jobs", "77") == 5, "tasks' entries are not schedules'"

    def test_those_of_schedules_that_are_gone_ring_once(
        self, client: FlaskClient, database: Database, redis_client: "redis.Redis"
    ) -> None:
        redis_client.zadd("rq:scheduler:scheduled_jobs", {"schedule-999": 1})
        reconciler = Reconciler(database, services.get().doorbell)
        Clock(redis_client, interval=1, name="c").enqueue_jobs(reconciler.announce_due)
        assert redis_client.zcard("rq:scheduler:scheduled_jobs") == 0

    def test_comparing_does_not_read_what_the_clock_carries_of_tasks(
        self, client: FlaskClient, schedules: Schedules, redis_client: "redis.Redis"
    ) -> None:
        create(client)
        redis_client.zadd("rq:scheduler:scheduled_jobs", {str(number): 9e9 + number for number in range(20_000)})
        schedules.compare_with_clock()
        before: Any = redis_client.info("stats")
        schedules.compare_with_clock()
        after: Any = redis_client.info("stats")
        assert after["total_net_output_bytes"] - before["total_net_output_bytes"] < 100_000


def test_status_is_unhealthy_without_a_scheduler(client: FlaskClient, database: Database) -> None:
    create(client)
    answer = client.get("/api/v1/scheduler/status")
    assert answer.status_code == 503
    facts = {"kind": "scheduler", "name": "s", "host": "h", "pid": 1, "queues": [], "capacity": 0}
    database.all("register_worker", facts)
    body = client.get("/api/v1/scheduler/status").get_json()
    assert body["status"] == "healthy"
    assert (len(body["schedulers"]), len(body["next_firings"]), body["lag_seconds"]) == (1, 1, 0)
    assert body["last_tick"]
    health = client.get("/health").get_json()
    assert health["next_firing"] == body["next_firings"][0]["next_run_at"]
