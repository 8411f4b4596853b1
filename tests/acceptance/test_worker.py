"""The worker under load, killed, stopped, and with Redis gone."""

import time
from pathlib import Path

import psutil
import psycopg

from tests.support.instance import running
from tests.support.model_server import Behaviour, ModelServer
from tests.support.waiting import wait_until

FLIGHT = "pressroom:flight:coroutine:test-model"


def test_urgent_work_never_waits_behind_long_work(data_dir: Path) -> None:
    model = ModelServer(Behaviour(delay=3))
    with model.serving() as url, running(data_dir, LLM_BASE_URL=url, WORKER_CONCURRENCY=20) as instance:
        instance.submit_batch({"prompt": f"low {n}", "model": "m", "priority": 1} for n in range(60))
        wait_until(lambda: model.in_flight == 14, "all slots allowed to low are busy")
        model.script.append(Behaviour())
        done = instance.ended(instance.submit("urgent", priority=10)["id"])
        started = [event["at"] for event in instance.events(done["id"]) if event["to_status"] == "PROCESSING"]
        assert len(started) == 1
        assert done["status"] == "COMPLETED"
        assert model.most_in_flight <= 15, "low must hold no more than its share"


def test_work_is_taken_strictly_by_priority(data_dir: Path) -> None:
    model = ModelServer()
    with model.serving() as url, running(data_dir, LLM_BASE_URL=url, WORKER_CONCURRENCY=1) as instance:
        model.script.append(Behaviour(delay=1))
        instance.submit("first")
        wait_until(lambda: model.in_flight == 1, "the only slot is busy")
        ids = [instance.submit(f"p{priority}", priority=priority)["id"] for priority in (1, 5, 9, 2, 6, 10)]
        for task_id in ids:
            instance.ended(task_id)
        asked = [call["messages"][-1]["content"] for call in model.calls]
        assert asked == ["first", "p9", "p10", "p5", "p6", "p1", "p2"]


def test_after_a_kill_9_all_tasks_complete_with_their_own_results(data_dir: Path) -> None:
    model = ModelServer(Behaviour(delay=0.5))
    with model.serving() as url, running(data_dir, LLM_BASE_URL=url, WORKER_CONCURRENCY=10) as instance:
        ids = [instance.submit(f"prompt {number}")["id"] for number in range(50)]
        instance.running(5)
        instance.find("jobs.worker").kill()
        for number, task_id in enumerate(ids):
            done = instance.ended(task_id, 60)
            assert (done["status"], done["result"]["text"]) == ("COMPLETED", f"echo: prompt {number}")
        assert {instance.task(task_id)["attempt"] for task_id in ids} == {1}, "losing the worker spent an attempt"
        details = [event["detail"] for task_id in ids for event in instance.events(task_id)]
        assert {"reason": "worker_lost"} in details


def test_a_paused_worker_cannot_overwrite_the_newer_attempts(data_dir: Path) -> None:
    model = ModelServer(Behaviour(delay=2))
    with model.serving() as url, running(data_dir, LLM_BASE_URL=url) as instance:
        ids = [instance.submit(f"paused {number}")["id"] for number in range(10)]
        wait_until(lambda: model.in_flight == 10, "the model is asked")
        worker = instance.find("jobs.worker")
        worker.suspend()
        instance.when(ids[-1], lambda now: now["status"] == "PENDING", "was taken from the paused worker")
        model.usual = Behaviour()
        worker.resume()
        for number, task_id in enumerate(ids):
            done = instance.ended(task_id)
            assert (done["status"], done["attempt"]) == ("COMPLETED", 1)
            assert done["result"]["text"] == f"echo: paused {number}"
            ends = [event for event in instance.events(task_id) if event["to_status"] == "COMPLETED"]
            assert len(ends) == 1
        wait_until(lambda: "given up for dead" in instance.log(), "the worker noticed")

        def running_shown() -> list[int]:
            return [worker["running"] for worker in instance.http.get("/health/workers").json()["workers"]]

        wait_until(lambda: running_shown() == [0], "the worker is shown with nothing in hand")
        assert instance.ended(instance.submit("after")["id"])["status"] == "COMPLETED"


def test_a_claim_whose_answer_was_lost_is_let_go(data_dir: Path) -> None:
    with running(data_dir, LLM_BASE_URL="http://127.0.0.1:9/v1") as instance:
        task = instance.submit(delay_seconds=3600)
        with psycopg.connect(instance.database_url, autocommit=True) as connection:
            # As after a COMMIT whose reply never came: the database believes that the worker has it.
            connection.execute(
                "UPDATE tasks SET status = 'PROCESSING', attempt = 1, fence = 1, due_at = NULL, model = 'offline',"
                " worker_id = (SELECT id FROM workers WHERE kind = 'worker' AND stopped_at IS NULL) WHERE id = %s",
                (task["id"],),
            )
        instance.when(task["id"], lambda now: now["status"] == "RETRYING", "is worked on again")
        reasons = [(event["detail"] or {}).get("reason") for event in instance.events(task["id"])]
        assert "handed back" in reasons


def test_a_redis_that_hangs_does_not_make_workers_look_dead(data_dir: Path) -> None:
    model = ModelServer(Behaviour(delay=14))
    with model.serving() as url, running(data_dir, LLM_BASE_URL=url) as instance:
        task = instance.submit("patient", max_retries=0)
        wait_until(lambda: model.in_flight == 1, "the model is asked")
        redis = instance.find("redis-server")
        redis.suspend()
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > 12, "more than a lease has passed", 13)
        redis.resume()
        done = instance.ended(task["id"])
        assert (done["status"], done["attempt"]) == ("COMPLETED", 1)


def test_sigterm_hands_back_what_cannot_finish_and_spends_no_attempt(data_dir: Path) -> None:
    model = ModelServer()
    grace = 5
    with (
        model.serving() as url,
        running(data_dir, LLM_BASE_URL=url, SHUTDOWN_GRACE_SECONDS=grace, RECONCILE_SECONDS=600) as instance,
    ):
        model.script.extend([Behaviour(delay=1), Behaviour("hang")])
        finishing, hanging = instance.submit("finishes"), instance.submit("hangs")
        wait_until(lambda: model.in_flight == 2, "both are running")
        (shown,) = instance.http.get("/health/workers").json()["workers"]
        redis = instance.redis
        assert redis.hget(FLIGHT, shown["name"])
        worker = instance.find("jobs.worker")
        began = time.monotonic()
        worker.terminate()
        psutil.wait_procs([worker], grace + 1)
        assert time.monotonic() - began < grace
        assert redis.hget(FLIGHT, shown["name"]) is None, "its calls leave room for others at once"
        redis.close()
        assert instance.ended(finishing["id"])["attempt"] == 1
        # Started again by the supervisor; nothing was left to recover by time-out.
        done = instance.ended(hanging["id"])
        assert (done["status"], done["attempt"]) == ("COMPLETED", 1)
        reasons = [(event["detail"] or {}).get("reason") for event in instance.events(hanging["id"])]
        assert "handed back" in reasons


def test_work_goes_on_after_redis_was_emptied(data_dir: Path) -> None:
    model = ModelServer(Behaviour(delay=0.3))
    with model.serving() as url, running(data_dir, LLM_BASE_URL=url, WORKER_CONCURRENCY=5) as instance:
        batch = instance.submit_batch({"prompt": f"p{n}", "model": "m"} for n in range(60))
        delayed = instance.submit(delay_seconds=3)
        instance.running(3)
        redis = instance.redis
        redis.flushall()
        redis.close()
        assert instance.batch_ended(batch)["counts"] == {"COMPLETED": 60}
        assert instance.ended(delayed["id"])["status"] == "COMPLETED"
        names = [worker["name"] for worker in instance.http.get("/rq/0/data/workers.json").json()["workers"]]
        assert len(names) == 1, "the worker shows itself again"
