"""Submitting: over HTTP with 32 connections to two web processes, and 10,000 tasks at once."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx
import psutil

from tests.benchmarks.bench import PEERS_PYTHON, Bench, Contestant, Measured, NotMeasured
from tests.benchmarks.pressroom import Running, pressroom
from tests.support.instance import ROOT, clean_environment, free_port
from tests.support.waiting import wait_until

_TASK = json.dumps({"prompt": "Say something long.", "model": "m"})
_SECONDS = 3.0
_BATCH = 10_000
_CELERY = 1_500  # one after another: it has no call for many
_GUNICORN = ("gunicorn", "--workers=2", "--threads=16", "--log-level=error", "tests.benchmarks.peers.flask_rq:app")
_UVICORN = (
    "uvicorn",
    "--workers=2",
    "--log-level=error",
    "--no-access-log",
    "tests.benchmarks.peers.fastapi_celery:app",
)


def measure(bench: Bench) -> None:
    """Compare them all."""
    one, many = "one task a request, 32 connections", "10,000 tasks at once"
    bench.compare(
        [
            Contestant(one, "Pressroom", partial(_one_by_one, bench)),
            Contestant(one, "FastAPI, Celery", partial(_peer, bench, _UVICORN, "--port={}")),
            Contestant(one, "Flask, RQ", partial(_peer, bench, _GUNICORN, "--bind=127.0.0.1:{}", insert=False)),
            Contestant(one, "Flask, INSERT, RQ", partial(_peer, bench, _GUNICORN, "--bind=127.0.0.1:{}", insert=True)),
            Contestant(many, "Pressroom, one request", partial(_batch, bench)),
            Contestant(many, "RQ, enqueue_many", partial(bench.peer, "rq_peer", "enqueue", tasks=_BATCH)),
            Contestant(many, "Celery, delay()", partial(bench.peer, "celery_peer", "enqueue", tasks=_CELERY)),
        ]
    )


def _one_by_one(bench: Bench) -> Measured:
    with _suspended(bench) as started:
        return _load(_request(started.instance.port, "/api/v1/tasks", bench))


def _batch(bench: Bench) -> Measured:
    """A batch, while four others submit one task after another."""
    with _suspended(bench) as started:
        body = json.dumps({"tasks": [json.loads(_TASK)] * _BATCH})
        post = partial(started.instance.http.post, "/api/v1/tasks/batch", headers={"Content-Type": "application/json"})
        others = _request(started.instance.port, "/api/v1/tasks", bench) | {
            "connections": 4,
            "pause": 0.005,
            "seconds": 2.0,
        }
        quiet = _load(others)
        with _begun(others) as process:
            time.sleep(1.0)
            began = time.perf_counter()
            answer = post(content=body)
            seconds = time.perf_counter() - began
            meanwhile = _said(process)
        assert answer.status_code == 201, answer.text
        return {
            "tasks/s": _BATCH / seconds,
            "slowest request of others meanwhile [ms]": meanwhile["slowest [ms]"],
            "slowest request of others without [ms]": quiet["slowest [ms]"],
        }


@contextmanager
def _suspended(bench: Bench) -> Iterator[Running]:
    """Nobody performs what is submitted: the peers have no worker then, either."""
    with pressroom(bench, WEB_CONCURRENCY=2) as started:
        started.suspend()
        yield started


def _peer(bench: Bench, command: tuple[str, ...], address: str, **options: Any) -> Measured:
    port = free_port()
    env = bench.peer_environment(**options)
    where = [str(PEERS_PYTHON), "-m", *command[:-1], address.format(port), command[-1]]
    with psutil.Popen(where, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            wait_until(lambda: _listens(port) or server.poll() is not None, "the peer answers")
            if server.poll() is not None:
                raise NotMeasured((server.stdout.read().strip().splitlines() or ["it ended at once"])[-1])
            return _load(_request(port, "/tasks", bench))
        finally:
            family = [server, *server.children(recursive=True)] if server.is_running() else []
            for member in family:
                member.kill()


def _listens(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/").status_code == 404
    except httpx.TransportError:
        return False


def _request(port: int, path: str, bench: Bench) -> dict[str, Any]:
    seconds = max(1.0, _SECONDS * min(1.0, bench.scale))
    return {"port": port, "path": path, "body": _TASK, "connections": 32, "seconds": seconds}


@contextmanager
def _begun(asked: dict[str, Any]) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "tests.benchmarks.load", json.dumps(asked)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=clean_environment(), stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def _said(process: "subprocess.Popen[str]") -> dict[str, float]:
    out, err = process.communicate(timeout=60)
    if process.returncode:
        raise NotMeasured((err.strip().splitlines() or ["the client failed"])[-1])
    said: dict[str, float] = json.loads(out)
    return said


def _load(asked: dict[str, Any]) -> dict[str, float]:
    with _begun(asked) as process:
        return _said(process)
