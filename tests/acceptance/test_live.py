"""Watching tasks while processes die around them."""

import httpx

from tests.acceptance.conftest import Setup
from tests.support.model_server import Behaviour
from tests.support.waiting import wait_until
from tests.support.watching import Watch, states_of, text_of

WATCHERS = 200


def watch(setup: Setup, task_id: int, **headers: str) -> Watch:
    return Watch(str(setup.instance.http.base_url), f"/api/v1/tasks/{task_id}/events", **headers)


def answers(setup: Setup) -> bool:
    try:
        return setup.instance.http.get("/api/v1/health").is_success
    except httpx.HTTPError:
        return False


def test_the_text_is_whole_though_the_worker_and_redis_die(setup: Setup) -> None:
    instance, model = setup.instance, setup.model
    model.answer = "".join(f"词 {number}, " for number in range(80))
    model.usual = Behaviour(pause=0.05)
    task_id = instance.submit(stream=True)["id"]
    first = watch(setup, task_id)
    wait_until(lambda: len(text_of(first.events)) > 20, "some text")

    instance.find("jobs.worker").kill()
    wait_until(lambda: states_of(first.events).count("PROCESSING") == 2, "another attempt")
    wait_until(lambda: 0 < len(text_of(first.events)) < 80, "its text begins anew")
    instance.redis.flushall()
    late = watch(setup, task_id)
    wait_until(lambda: len(text_of(first.events)) > 120, "the text goes on")
    instance.find("redis-server").kill()
    half = list(first.events)
    again = watch(setup, task_id, **{"Last-Event-ID": half[-1].id})

    for one in (first, late, again):
        assert one.ended() == "COMPLETED"
    assert text_of(first.events) == text_of(late.events) == instance.task(task_id)["result"]["text"] == model.answer
    assert text_of([*half, *again.events]) == model.answer
    log = instance.events(task_id)
    for events in (first.events, late.events, [*half, *again.events]):
        assert [event.data for event in events if event.kind == "state"] == log


def test_many_watch_while_others_work_and_all_leave_when_the_process_is_to_end(setup: Setup) -> None:
    instance = setup.instance
    task_id = instance.submit(delay_seconds=3600)["id"]
    watches = [watch(setup, task_id) for _ in range(WATCHERS)]
    wait_until(lambda: all(one.events for one in watches), "all watch", 30)
    assert instance.ended(instance.submit()["id"])["status"] == "COMPLETED"

    web = instance.find("gunicorn")
    web.terminate()
    wait_until(lambda: all(one.is_over for one in watches), "all are let go", 10)
    wait_until(lambda: not web.is_running(), "it has ended")
    wait_until(lambda: answers(setup), "another one is there")
    back = [watch(setup, task_id, **{"Last-Event-ID": one.events[-1].id}) for one in watches[:20]]
    instance.http.post(f"/api/v1/tasks/{task_id}/cancel")
    for one in back:
        assert one.ended() == "CANCELLED"
        assert states_of(one.events) == ["CANCELLED"]
