"""A task from the first call to its end, with real processes and a real endpoint."""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.conftest import KEY, Setup
from tests.support.model_server import Behaviour
from tests.support.waiting import wait_until


def transitions(events: list[dict[str, Any]]) -> list[str]:
    return [event["to_status"] for event in events]


def test_the_first_task_comes_back_with_the_models_answer(setup: Setup) -> None:
    task = setup.instance.submit("请用一句话介绍人工智能", priority=1)
    done = setup.instance.ended(task["id"])
    assert done["status"] == "COMPLETED"
    assert done["result"]["text"] == "echo: 请用一句话介绍人工智能"
    assert done["result"]["model"] == "test-model"
    assert done["usage"]["total_tokens"] > 0
    assert (done["attempt"], done["progress"], done["error"]) == (1, 100, None)
    assert done["created_at"] <= done["started_at"] <= done["completed_at"]
    assert transitions(setup.instance.events(task["id"])) == ["PENDING", "PROCESSING", "COMPLETED"]
    assert setup.model.keys[-1] == f"Bearer {KEY}"


def test_inputs_reach_the_model(setup: Setup) -> None:
    given = {
        "system_prompt": "be brief",
        "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}],
        "temperature": 0.1,
        "max_tokens": 9,
        "response_format": {"type": "json_object"},
    }
    setup.instance.ended(setup.instance.submit("now", input=given)["id"])
    call = setup.model.calls[-1]
    assert [message["content"] for message in call["messages"]] == ["be brief", "hi", "hello", "now"]
    assert (call["temperature"], call["max_tokens"]) == (0.1, 9)
    assert call["response_format"] == {"type": "json_object"}


def test_fifty_simultaneous_submissions_all_complete_with_their_own_result(setup: Setup) -> None:
    with ThreadPoolExecutor(50) as threads:
        tasks = list(threads.map(lambda number: setup.instance.submit(f"prompt {number}"), range(50)))
    for number, task in enumerate(tasks):
        assert setup.instance.ended(task["id"])["result"]["text"] == f"echo: prompt {number}"


class TestRetries:
    def test_a_failure_that_can_pass_is_tried_again(self, setup: Setup) -> None:
        setup.model.script.extend([Behaviour("error", status=500), Behaviour("drop"), Behaviour("garbage")])
        task = setup.instance.submit("again", retry={"strategy": "fixed", "base_delay": 0.1})
        done = setup.instance.ended(task["id"])
        assert (done["status"], done["attempt"]) == ("COMPLETED", 4)
        events = setup.instance.events(task["id"])
        assert transitions(events) == ["PENDING", *["PROCESSING", "RETRYING"] * 3, "PROCESSING", "COMPLETED"]
        codes = [event["detail"]["error"]["code"] for event in events if event["to_status"] == "RETRYING"]
        assert codes == ["provider_error", "provider_unreachable", "invalid_response"]

    def test_attempts_end(self, setup: Setup) -> None:
        setup.model.script.extend([Behaviour("error", status=503)] * 3)
        task = setup.instance.submit(max_retries=1, retry={"strategy": "fixed", "base_delay": 0.05})
        done = setup.instance.ended(task["id"])
        assert (done["status"], done["attempt"]) == ("FAILED", 2)
        assert done["error"] == {
            "code": "provider_error",
            "message": "default answered 503: scripted failure",
            "retryable": True,
            "status_code": 503,
        }

    def test_what_cannot_pass_is_not_tried_again(self, setup: Setup) -> None:
        setup.model.script.append(Behaviour("error", status=401))
        done = setup.instance.ended(setup.instance.submit()["id"])
        assert (done["status"], done["attempt"], done["error"]["status_code"]) == ("FAILED", 1, 401)

    def test_retry_after_is_respected(self, setup: Setup) -> None:
        setup.model.script.append(Behaviour("error", status=429, headers={"Retry-After": "2"}))
        task = setup.instance.submit(retry={"strategy": "fixed", "base_delay": 0.01})
        waiting = setup.instance.when(task["id"], lambda now: now["status"] == "RETRYING", "waits")
        assert waiting["error"]["code"] == "rate_limited"
        done = setup.instance.ended(task["id"])
        times = {event["to_status"]: event["at"] for event in setup.instance.events(task["id"])}
        assert (done["status"], done["attempt"]) == ("COMPLETED", 1), "waiting out a rate limit costs no attempt"
        assert _seconds(times["RETRYING"], times["PROCESSING"]) >= 2

    def test_a_failed_task_runs_again_when_asked(self, setup: Setup) -> None:
        setup.model.script.append(Behaviour("error", status=400))
        task = setup.instance.submit("once more")
        assert setup.instance.ended(task["id"])["status"] == "FAILED"
        assert setup.instance.http.post(f"/api/v1/tasks/{task['id']}/retry").status_code == 200
        done = setup.instance.ended(task["id"])
        assert (done["status"], done["attempt"], done["error"]) == ("COMPLETED", 1, None)


def _seconds(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def test_the_time_limit_ends_an_attempt(setup: Setup) -> None:
    setup.model.script.append(Behaviour("hang"))
    task = setup.instance.submit(timeout_seconds=1, max_retries=0)
    done = setup.instance.ended(task["id"])
    assert (done["status"], done["error"]["code"], done["error"]["retryable"]) == ("FAILED", "timeout", True)
    wait_until(lambda: setup.model.in_flight == 0, "the call was dropped")


def test_cancelling_a_running_task_drops_the_call_within_two_seconds(setup: Setup) -> None:
    setup.model.script.append(Behaviour("hang"))
    task = setup.instance.submit()
    wait_until(lambda: setup.model.in_flight == 1, "the model is asked")
    asked = time.monotonic()
    assert setup.instance.http.post(f"/api/v1/tasks/{task['id']}/cancel").status_code == 200
    wait_until(lambda: setup.model.in_flight == 0, "the call is dropped", 2)
    done = setup.instance.ended(task["id"])
    assert time.monotonic() - asked < 2
    assert done["status"] == "CANCELLED"
    assert transitions(setup.instance.events(task["id"])) == ["PENDING", "PROCESSING", "CANCELLED"]


def test_cancelling_works_when_the_signal_is_lost(setup: Setup) -> None:
    setup.model.script.append(Behaviour("hang"))
    task = setup.instance.submit()
    wait_until(lambda: setup.model.in_flight == 1, "the model is asked")
    # The channel's name is taken from the workers' table: with none, nobody is told.
    with _without_worker_names(setup):
        setup.instance.http.post(f"/api/v1/tasks/{task['id']}/cancel")
    assert setup.instance.ended(task["id"], 5)["status"] == "CANCELLED"


@contextmanager
def _without_worker_names(setup: Setup) -> Iterator[None]:
    with psycopg.connect(setup.instance.database_url, autocommit=True) as connection:
        connection.execute("UPDATE workers SET name = 'not-' || name WHERE stopped_at IS NULL")
        yield
        connection.execute("UPDATE workers SET name = substr(name, 5) WHERE name LIKE 'not-%'")


@pytest.mark.parametrize("when", ["delay_seconds", "run_at"])
def test_a_delayed_task_starts_within_a_second_of_its_time(when: str, setup: Setup) -> None:
    value: Any = 1.5 if when == "delay_seconds" else (datetime.now(UTC) + timedelta(seconds=1.5)).isoformat()
    task = setup.instance.submit(**{when: value})
    done = setup.instance.ended(task["id"])
    assert 0 <= _seconds(done["run_at"], done["started_at"]) < 1


def test_rq_info_shows_the_truth(setup: Setup) -> None:
    def info() -> str:
        rq = Path(sys.executable).with_name("rq")
        url = f"unix://{setup.instance.data_dir}/run/redis.sock"
        run = subprocess.run([rq, "info", "--raw", "--url", url], capture_output=True, text=True, check=True)
        return run.stdout

    assert " idle " in info()
    setup.model.script.extend([Behaviour("hang")] * 2)
    tasks = [setup.instance.submit(priority=9) for _ in range(2)]
    wait_until(lambda: "queue high 0, 2 executing" in info(), "two tasks are shown as executing")
    assert " busy " in info()
    workers = setup.instance.http.get("/rq/0/data/workers.json").json()["workers"]
    assert workers[0]["state"] == "busy"
    assert workers[0]["current_job"]["description"] in {f"task {task['id']}" for task in tasks}
    for task in tasks:
        setup.instance.http.post(f"/api/v1/tasks/{task['id']}/cancel")
    wait_until(lambda: "queue high 0, 0 executing" in info() and " idle " in info(), "nothing is shown any more")
    setup.model.script.append(Behaviour("error", status=400))
    setup.instance.ended(setup.instance.submit(priority=9)["id"])
    wait_until(lambda: "queue high 0, 0 executing, 0 finished, 1 failed" in info(), "the failure is shown")


def test_suspended_workers_take_nothing_until_resumed(setup: Setup) -> None:
    redis = setup.instance.redis
    redis.set("rq:suspended", 1)
    try:
        held = setup.instance.submit()

        def shown() -> bool:
            workers = setup.instance.http.get("/rq/0/data/workers.json").json()["workers"]
            return bool(workers[0]["state"] == "suspended")

        wait_until(shown, "the worker is shown as suspended")
        assert setup.instance.task(held["id"])["status"] == "PENDING"
    finally:
        redis.delete("rq:suspended")
        redis.close()
    assert setup.instance.ended(held["id"])["status"] == "COMPLETED"


def test_nothing_that_never_expires_is_left_in_redis(setup: Setup) -> None:
    for number in range(20):
        setup.instance.submit(priority=1 + number % 10)
    redis = setup.instance.redis
    queues = ("high", "default", "low")
    registers = {b"rq:queues", b"rq:workers", *(f"rq:workers:{queue}".encode() for queue in queues)}
    known = {*registers, b"rq:scheduler:scheduled_jobs"}

    def leaks() -> set[bytes]:
        return {key for key in redis.scan_iter() if redis.ttl(key) == -1} - known

    wait_until(lambda: not leaks(), "only registers of queues and workers stay")
    redis.close()


def test_the_request_id_is_on_the_workers_lines_too(setup: Setup) -> None:
    answer = setup.instance.http.post(
        "/api/v1/tasks", json={"prompt": "p", "model": "m"}, headers={"X-Request-ID": "req-4711"}
    )
    setup.instance.ended(answer.json()["id"])
    wait_until(
        lambda: (
            {line.split()[0] for line in setup.instance.log().splitlines() if "req-4711" in line} >= {"web", "worker"}
        ),
        "both processes logged the id",
    )
    assert KEY not in setup.instance.log()
