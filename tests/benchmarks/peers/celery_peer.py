"""Celery over Redis: no results kept, no gossip; the pool (prefork, threads, gevent) as the load has it."""

import sys
import time

import urllib3
from celery import Celery

from tests.benchmarks.peers import delays
from tests.benchmarks.peers.calling import BODY, HEADERS, text_of
from tests.benchmarks.peers.driver import answer, options, performed, python
from tests.benchmarks.peers.tally import Tally

_tally = Tally()
_http = urllib3.PoolManager(maxsize=1000)
_ME = "tests.benchmarks.peers.celery_peer"
_QUIET = ("--loglevel=ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat")


def _broker() -> str:
    url = options().redis_url
    path, is_socket, _ = url.removeprefix("unix://").partition("?")
    return f"redis+socket://{path}?virtual_host=1" if is_socket else url


app = Celery(_ME, broker=_broker())
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=options().get("prefetch", 1),
    broker_transport_options={"queue_order_strategy": "priority", "sep": ":", "priority_steps": [0, 9]},
    worker_cancel_long_running_tasks_on_connection_loss=False,
)


@app.task(name=f"{_ME}.call")
def call() -> None:
    """One model call."""
    _tally.begin()
    text_of(_http.request("POST", f"{options()['endpoint']}/chat/completions", body=BODY, headers=HEADERS).data)
    _tally.end()


@app.task(name=f"{_ME}.noop")
def noop(*_: object) -> None:
    """Nothing."""
    _tally.begin()
    _tally.end()


@app.task(name=f"{_ME}.nap")
def nap(seconds: float) -> None:
    """Hold a slot."""
    time.sleep(seconds)


@app.task(name=f"{_ME}.began")
def began(asked_at: float) -> None:
    """How long that took."""
    delays.note(time.time() - asked_at)


def _worker() -> list[str]:
    """A command."""
    asked = options()
    pool = (f"--pool={asked['pool']}", f"--concurrency={asked['slots']}")
    return python("celery", "-A", _ME, "worker", *pool, *_QUIET)


def _main(load: str) -> None:
    task = app.tasks[f"{_ME}.{'call' if load == 'llm' else 'noop'}"]
    begun = time.perf_counter()
    if load == "priority":
        for _ in range(options()["backlog"]):
            app.send_task(f"{_ME}.nap", [options()["seconds"]], priority=9)
        answer(**delays.of([_worker()], lambda: app.send_task(f"{_ME}.began", [time.time()], priority=0)))
        return
    for _ in range(options()["tasks"]):
        task.delay()
    if load == "enqueue":
        answer(**{"tasks/s": options()["tasks"] / (time.perf_counter() - begun)})
    else:
        answer(**performed([_worker()]))


if __name__ == "__main__":
    _main(sys.argv[1])
