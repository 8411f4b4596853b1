"""`make run`: starts everything, keeps it running, stops everything."""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.instance import ROOT, Instance, clean_environment, free_port, running
from tests.support.waiting import wait_until


def test_it_works_offline_survives_a_restart_and_leaves_nothing_behind(data_dir: Path) -> None:
    with running(data_dir) as first:
        done = first.ended(first.submit("你好")["id"])
        assert "No model was called" in done["result"]["text"]
        assert "你好" in done["result"]["text"]
        assert first.http.get("/health").json()["status"] == "healthy"
    assert first.process
    assert first.process.returncode == 0
    with running(data_dir) as second:
        assert second.task(done["id"]) == done
        assert second.ended(second.submit()["id"])["status"] == "COMPLETED"


def test_two_instances_run_side_by_side_also_where_paths_have_spaces(place: Path) -> None:
    with running(place / "one") as one, running(place / "the other one") as two:
        one.ended(one.submit("for one")["id"])
        assert two.http.get("/api/v1/tasks").json() == []
        two.ended(two.submit("for two")["id"])
        assert len(one.http.get("/api/v1/tasks").json()) == 1


def test_whatever_dies_is_started_again(data_dir: Path) -> None:
    with running(data_dir) as instance:
        for part in ("jobs.worker", "gunicorn", "-m scheduler", "redis-server", "bin/postgres"):
            victim = instance.find(part)
            victim.kill()
            wait_until(partial(_other, instance, part, victim), f"{part} is back")

        def works() -> bool:
            answer = instance.http.get("/health")
            return answer.status_code == 200 and answer.json()["workers"] >= 1

        wait_until(lambda: _quietly(works), "the instance is healthy again", 30)
        assert instance.ended(instance.submit()["id"])["status"] == "COMPLETED"


def _other(instance: Instance, part: str, victim: psutil.Process) -> bool:
    try:
        return bool(instance.find(part).pid != victim.pid)
    except (AssertionError, psutil.NoSuchProcess):
        return False


def _quietly(check: Callable[[], bool]) -> bool:
    try:
        return bool(check())
    except httpx.HTTPError:
        return False


def test_ctrl_c_stops_it_too(data_dir: Path) -> None:
    instance = Instance(data_dir)
    instance.start()
    left = instance.processes()
    assert instance.process
    instance.process.send_signal(signal.SIGINT)
    assert instance.process.wait(30) == 0
    assert not [process for process in left if process.is_running() and process.status() != "zombie"]
    instance.http.close()


def test_after_a_kill_9_of_everything_it_starts_again(data_dir: Path) -> None:
    instance = Instance(data_dir)
    instance.start()
    task = instance.ended(instance.submit()["id"])
    left = instance.processes()
    assert instance.process
    instance.process.kill()
    instance.process.wait()
    psutil.wait_procs(left, 10)
    instance.http.close()
    with running(data_dir) as again:
        assert again.task(task["id"]) == task


def run(**environment: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.run"],
        cwd=ROOT,
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_port_in_use_is_said_in_one_line(data_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run(PORT=port, DATA_DIR=data_dir)
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert str(port) in ended.stderr
    assert "PORT" in ended.stderr


@pytest.mark.parametrize(
    ("environment", "code", "said"),
    [
        ({"HANDLER_MODULES": "no.such.module"}, 2, "HANDLER_MODULES"),
        ({"REDIS_URL": "redis://127.0.0.1:1/0"}, 1, "cannot reach Redis"),
        ({"DATABASE_URL": "postgresql://127.0.0.1:1/x"}, 1, "cannot migrate the database"),
        ({"DATA_DIR": "/proc/x"}, 1, "DATA_DIR"),
    ],
)
def test_what_cannot_work_is_said_at_once(environment: dict[str, str], code: int, said: str, data_dir: Path) -> None:
    ended = run(**{"PORT": free_port(), "DATA_DIR": data_dir, **environment})
    assert ended.returncode == code
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr + ended.stdout


def test_after_postgres_was_killed_no_request_meets_a_dead_connection(data_dir: Path) -> None:
    with running(data_dir) as instance:
        for _ in range(20):
            instance.submit()
        victim = instance.find("bin/postgres")
        victim.kill()

        def answers() -> bool:
            return instance.http.get("/api/v1/tasks?limit=1").status_code == 200

        wait_until(lambda: _other(instance, "bin/postgres", victim) and _quietly(answers), "it answers again", 30)
        statuses = [instance.http.get("/api/v1/tasks?limit=1").status_code for _ in range(40)]
        assert set(statuses) == {200}


def test_a_second_run_with_the_same_data_is_refused(data_dir: Path) -> None:
    with running(data_dir) as instance:
        ended = run(PORT=free_port(), DATA_DIR=data_dir)
        assert ended.returncode == 1
        assert len(ended.stderr.splitlines()) == 1
        assert instance.process
        assert str(instance.process.pid) in ended.stderr


@pytest.mark.parametrize("module", ["deploy.run", "jobs.worker", "scheduler", "jobs.store.migrate"])
def test_wrong_settings_are_all_named_and_end_with_code_2(module: str, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env=clean_environment(PORT="x", LOG_LEVEL="LOUD", QUEUE_SHARES="?", DATA_DIR=tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert all(name in ended.stderr for name in ("PORT", "LOG_LEVEL", "QUEUE_SHARES"))
    assert "Traceback" not in ended.stderr


def test_gunicorn_refuses_wrong_settings_and_open_access_with_code_2(tmp_path: Path) -> None:
    for environment, named in (({"PORT": "x"}, "PORT"), ({"HOST": "0.0.0.0"}, "HOST")):
        ended = subprocess.run(
            [sys.executable, "-m", "gunicorn", "-c", "deploy/gunicorn.conf.py"],
            cwd=ROOT,
            env=clean_environment(**environment, DATA_DIR=tmp_path),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 2
        assert named in ended.stderr
        assert "Traceback" not in ended.stderr
