"""Stock RQ: SimpleWorkers (no fork a job), one job at a time each; jobs live in Redis."""

import logging
import sys
import time

import redis
import urllib3
from rq import Queue, SimpleWorker

from tests.benchmarks.peers import delays
from tests.benchmarks.peers.calling import BODY, HEADERS, text_of
from tests.benchmarks.peers.driver import answer, options, performed, python
from tests.benchmarks.peers.tally import Tally

_tally = Tally()
_http = urllib3.PoolManager()
_ME = "tests.benchmarks.peers.rq_peer"


def connect() -> "redis.Redis":
    """To the Redis of all."""
    return redis.Redis.from_url(options().redis_url)


def call() -> str:
    """One model call."""
    _tally.begin()
    text = text_of(_http.request("POST", f"{options()['endpoint']}/chat/completions", body=BODY, headers=HEADERS).data)
    _tally.end()
    return text


def noop(*_: object) -> None:
    """Nothing."""
    _tally.begin()
    _tally.end()


def nap(seconds: float) -> None:
    """Hold the worker."""
    time.sleep(seconds)


def began(asked_at: float) -> None:
    """How long that took."""
    delays.note(time.time() - asked_at)


def submit(name: str, tasks: int, queue: str = "default", *arguments: object) -> float:
    """So many jobs in pipelines of 1,000; returns the seconds that took."""
    target = Queue(queue, connection=connect())
    begun = time.perf_counter()
    for start in range(0, tasks, 1000):
        count = min(1000, tasks - start)
        target.enqueue_many([Queue.prepare_data(f"{_ME}.{name}", arguments) for _ in range(count)])
    return time.perf_counter() - begun


def _main(load: str) -> None:
    workers = [python(_ME, "work")] * options().get("processes", 1)
    match load:
        case "work":
            logging.getLogger("rq.worker").setLevel(logging.ERROR)
            SimpleWorker(["high", "default", "low"], connection=connect()).work(logging_level="ERROR")
        case "enqueue":
            answer(**{"tasks/s": options()["tasks"] / submit("noop", options()["tasks"])})
        case "priority":
            submit("nap", options()["backlog"], "low", options()["seconds"])
            high = Queue("high", connection=connect())
            answer(**delays.of(workers, lambda: high.enqueue(f"{_ME}.began", time.time())))
        case _:
            submit("call" if load == "llm" else "noop", options()["tasks"])
            answer(**performed(workers))


if __name__ == "__main__":
    _main(sys.argv[1])
