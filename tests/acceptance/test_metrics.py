"""/metrics of an installation with several web processes."""

import signal
import tempfile
from pathlib import Path

import httpx
import psutil
import psycopg

from tests.support.instance import fresh_directory, running
from tests.support.waiting import wait_until

HEALTH = 'pressroom_http_request_duration_seconds_count{endpoint="/api/v1/health",method="GET",status="200"}'


def test_every_web_process_answers_for_all_of_them_for_workers_and_for_the_scheduler() -> None:
    with fresh_directory() as data, running(data, WEB_CONCURRENCY=2) as instance:
        master = instance.find("gunicorn")
        (timings,) = Path(tempfile.gettempdir()).glob(f"pressroom-metrics-{master.pid}-*")
        sent = 0

        def ask(path: str) -> str:
            answer = httpx.get(f"http://127.0.0.1:{instance.port}{path}")  # a connection of its own
            assert answer.status_code == 200
            return answer.text

        def seen(name: str) -> float:
            (line,) = [line for line in ask("/metrics").splitlines() if line.startswith(name + " ")]
            return float(line.rpartition(" ")[2])

        def both_have_served() -> bool:
            nonlocal sent
            ask("/api/v1/health")
            sent += 1
            return len(list(timings.glob("histogram_*.db"))) == 2

        wait_until(both_have_served, "both web processes have served requests")
        assert {seen(HEALTH) for _ in range(8)} == {sent}
        for _ in range(3):
            instance.ended(instance.submit()["id"])
        ended = 'pressroom_tasks_ended_total{status="COMPLETED",task_type="text_generation"}'
        assert {seen(ended) for _ in range(4)} == {3}
        assert seen("pressroom_workers") == seen("pressroom_schedulers") == 1
        with psycopg.connect(instance.database_url, autocommit=True) as connection:
            fresh = "SELECT FROM ends_new UNION ALL SELECT FROM durations_new UNION ALL SELECT FROM tokens_new"
            wait_until(lambda: not connection.execute(fresh).fetchall(), "the scheduler has added them up")
        assert instance.http.get("/api/v1/stats/tasks").json()["total_tasks"] == seen(ended) == 3

        # One that is killed is replaced; what it had counted stays, what it had in flight does not.
        (victim, *_) = master.children()
        victim.send_signal(signal.SIGKILL)
        wait_until(lambda: len(_alive(master)) == 2 and victim not in _alive(master), "it is replaced")
        assert seen(HEALTH) == sent
        wait_until(lambda: not list(timings.glob(f"gauge_livesum_{victim.pid}.db")), "its requests in flight are gone")
    assert not timings.exists()


def _alive(master: psutil.Process) -> list[psutil.Process]:
    return [child for child in master.children() if child.status() != psutil.STATUS_ZOMBIE]
