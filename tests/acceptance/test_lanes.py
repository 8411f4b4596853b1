"""Coroutines, threads and processes in one worker: limits, cancelling and crashes in each of them."""

from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.support.instance import Instance, fresh_directory, running
from tests.support.waiting import wait_until

LANES = ("in_coroutine", "in_thread", "in_process")
SETTINGS = {
    "HANDLER_MODULES": "tests.support.lane_handlers",
    "WORKER_THREADS": 4,
    "WORKER_PROCESSES": 2,
    "WORKER_PROCESS_MEMORY_MB": 150,
}


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    with fresh_directory() as directory, running(directory, **SETTINGS) as up:
        yield up


def submit(instance: Instance, lane: str, what: str, seconds: float = 0, **fields: Any) -> int:
    body = {"task_type": lane, "input": {"what": what, "seconds": seconds}, "max_retries": 0, **fields}
    answer = instance.http.post("/api/v1/tasks", json=body)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def busy(instance: Instance) -> list[psutil.Process]:
    members = instance.find("jobs.worker").children()
    return [member for member in members if member.cpu_percent(0.1) > 30]


@pytest.mark.parametrize("lane", LANES)
def test_the_context_is_reachable_from_anywhere_below_the_handler(lane: str, instance: Instance) -> None:
    task_id = submit(instance, lane, "report")
    done = instance.ended(task_id)
    assert done["status"] == "COMPLETED", done["error"]
    assert done["result"]["task_id"] == task_id
    assert done["result"]["attempt"] == 1
    is_own_process = done["result"]["pid"] != instance.find("jobs.worker").pid
    assert is_own_process == (lane == "in_process")
    wait_until(lambda: f"task_id={task_id}" in instance.log(), "the handler's line is in the log")


@pytest.mark.parametrize(
    ("lane", "what"), [("in_coroutine", "resist"), ("in_thread", "ignore"), ("in_process", "spin")]
)
def test_the_time_limit_ends_an_attempt_that_does_not_cooperate(lane: str, what: str, instance: Instance) -> None:
    done = instance.ended(submit(instance, lane, what, 8, timeout_seconds=1))
    assert (done["status"], done["error"]["code"]) == ("FAILED", "timeout")
    events = instance.events(done["id"])
    assert [event["detail"] for event in events if event["from_status"] == event["to_status"]] == [
        {"warning": "soft_limit"}
    ], "the soft limit is noted"


@pytest.mark.parametrize(
    ("lane", "what"), [("in_coroutine", "wait"), ("in_thread", "cooperate"), ("in_process", "spin")]
)
def test_cancelling_stops_a_running_attempt(lane: str, what: str, instance: Instance) -> None:
    task_id = submit(instance, lane, what, 60)
    instance.when(task_id, lambda task: task["status"] == "PROCESSING", "runs")
    instance.http.post(f"/api/v1/tasks/{task_id}/cancel").raise_for_status()
    assert instance.ended(task_id, 5)["status"] == "CANCELLED"


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("segfault", "process_lost", "SIGSEGV"),
        ("exit", "process_lost", "code 3"),
        ("raise", "handler_error", "KeyError"),
        ("unserialisable", "handler_error", "TypeError"),
    ],
)
def test_a_process_that_goes_wrong_fails_its_own_task_alone(
    what: str, code: str, said: str, instance: Instance
) -> None:
    beside = submit(instance, "in_process", "spin", 1)
    failed = instance.ended(submit(instance, "in_process", what))
    assert (failed["status"], failed["error"]["code"]) == ("FAILED", code)
    assert said in failed["error"]["message"]
    assert instance.ended(beside)["status"] == "COMPLETED"


def test_a_killed_process_has_its_task_tried_again(instance: Instance) -> None:
    task_id = submit(instance, "in_process", "spin", 2, max_retries=1, retry={"strategy": "fixed", "base_delay": 0.01})
    wait_until(lambda: busy(instance), "a member computes")[0].kill()
    done = instance.ended(task_id)
    assert (done["status"], done["attempt"]) == ("COMPLETED", 2)


def test_what_an_attempt_cost_is_kept(instance: Instance) -> None:
    done = instance.ended(submit(instance, "in_process", "spin", 0.5))
    cost = instance.events(done["id"])[-1]["detail"]
    assert cost["cpu_seconds"] > 0
    assert cost["run_seconds"] >= 0.5
    assert cost["peak_memory_mb"] > 10
    assert done["run_seconds"] >= 0.5
    assert done["waited_seconds"] >= 0


def test_a_member_that_has_grown_is_replaced(instance: Instance) -> None:
    grown = instance.ended(submit(instance, "in_process", "allocate"))
    assert instance.events(grown["id"])[-1]["detail"]["peak_memory_mb"] > 200
    assert grown["result"]["size"] == 200 * 2**20


def test_long_work_in_one_lane_never_holds_up_another(instance: Instance) -> None:
    long = [submit(instance, "in_process", "spin", 60) for _ in range(3)]
    wait_until(lambda: instance.task(long[0])["status"] == "PROCESSING", "the process lane is busy")
    for lane in ("in_coroutine", "in_thread"):
        assert instance.ended(submit(instance, lane, "report"), 10)["status"] == "COMPLETED"
    for task_id in long:
        instance.http.post(f"/api/v1/tasks/{task_id}/cancel").raise_for_status()
        assert instance.ended(task_id)["status"] == "CANCELLED"


def test_a_profile_is_kept_when_asked_for(instance: Instance) -> None:
    for lane in LANES:
        done = instance.ended(submit(instance, lane, "report", profile=True))
        page = wait_until(lambda: _page(instance, done["id"]), f"a profile of {lane} is there")  # noqa: B023
        assert "_report" in page or "in_" in page
    assert instance.http.get(f"/api/v1/tasks/{submit(instance, 'in_thread', 'report')}/profile").status_code == 404


def _page(instance: Instance, task_id: int) -> str:
    answer = instance.http.get(f"/api/v1/tasks/{task_id}/profile")
    return answer.text if answer.status_code == 200 else ""


def test_a_worker_with_many_stuck_threads_makes_way_for_a_new_one(instance: Instance) -> None:
    def workers() -> set[str]:
        return {worker["name"] for worker in instance.http.get("/health/workers").json()["workers"]}

    before = workers()
    for task_id in [submit(instance, "in_thread", "ignore", 60, timeout_seconds=1) for _ in range(3)]:
        assert instance.ended(task_id)["error"]["code"] == "timeout"

    def replaced() -> bool:
        return bool(workers() - before)

    wait_until(replaced, "another worker has taken over", 30)
    assert instance.ended(submit(instance, "in_thread", "report"))["status"] == "COMPLETED"


def test_sigterm_to_every_process_at_once_lets_a_process_finish_its_task(instance: Instance) -> None:
    task_id = submit(instance, "in_process", "spin", 3, max_retries=0)
    worker = instance.find("jobs.worker")
    members = wait_until(lambda: busy(instance), "a member computes")
    for process in (worker, *members):  # as on Heroku
        process.terminate()
    done = instance.ended(task_id)
    assert (done["status"], done["attempt"]) == ("COMPLETED", 1), done["error"]
    reasons = [(event["detail"] or {}).get("reason") for event in instance.events(task_id)]
    assert "handed back" not in reasons
    wait_until(lambda: not [m for m in members if m.is_running() and m.status() != "zombie"], "no member is left")


def test_members_end_with_their_worker(instance: Instance) -> None:
    task_id = submit(instance, "in_process", "spin", 60, max_retries=0)
    instance.when(task_id, lambda task: task["status"] == "PROCESSING", "runs")
    worker = instance.find("jobs.worker")
    members = worker.children(recursive=True)
    assert members
    worker.kill()
    wait_until(lambda: not [m for m in members if m.is_running() and m.status() != "zombie"], "no member is left")
    done = instance.ended(task_id, 60)
    assert done["error"]["code"] == "worker_lost"
