"""Starts a peer's workers on a full queue, and takes the time from the first task's begin to the last one's end."""

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.peers.tally import Total, environment, total

_LIMIT_SECONDS = 60.0


class Options(dict[str, Any]):
    """What the benchmark asked for: `redis`, `endpoint` and `postgres` URLs, `tasks`, `slots`..."""

    @property
    def redis_url(self) -> str:
        """A database beside Pressroom's, on the same server."""
        url = str(self["redis"])
        return f"{url.partition('?')[0]}?db=1" if url.startswith("unix:") else f"{url.rpartition('/')[0]}/1"


def options() -> Options:
    """From the environment, which workers inherit."""
    return Options(json.loads(os.environ["BENCH_OPTIONS"]))


def answer(**figures: float) -> None:
    """The figures, to the benchmark."""
    sys.stdout.write(f"{json.dumps(figures)}\n")


@contextmanager
def started(commands: Sequence[Sequence[str]]) -> Iterator[tuple[list[psutil.Process], Path]]:
    """Workers for the block, and where they count."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    with tempfile.TemporaryDirectory() as name:
        place, log = Path(name) / "tally", Path(name) / "log"
        place.mkdir()
        env = {**os.environ, **environment(place)}
        with log.open("wb") as output:
            processes = [
                psutil.Popen(list(command), env=env, stdout=output, stderr=output, start_new_session=True)
                for command in commands
            ]
        try:
            yield processes, place
        except Exception:
            sys.stderr.write(log.read_text(errors="replace")[-4000:])
            raise
        finally:
            for process in processes:
                _end(process)


def performed(commands: Sequence[Sequence[str]]) -> dict[str, float]:
    """Have so many tasks performed that wait in the queue already."""
    wanted = int(options()["tasks"])
    with started(commands) as (processes, place):
        _until(place, 1, 0.002)
        before = _spent(processes)
        first = total(place)
        end = _until(place, wanted, 0.05)
        spent = _spent(processes) - before
        memory = sum(process.memory_info().rss for process in _family(processes)) / 2**20
    return {
        "tasks/s": wanted / (end.ended - end.began),
        "worker CPU a task [ms]": 1000 * spent / max(1, wanted - first.done),
        "worker memory [MB]": memory,
    }


def _until(place: Path, wanted: int, pause: float) -> Total:
    deadline = time.monotonic() + _LIMIT_SECONDS
    while (now := total(place)).done < wanted:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{now.done} of {wanted} tasks in {_LIMIT_SECONDS:g} s")
        time.sleep(pause)
    return now


def _family(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    return [member for process in processes for member in (process, *process.children(recursive=True))]


def _spent(processes: Sequence[psutil.Process]) -> float:
    return float(sum(sum(process.cpu_times()[:2]) for process in _family(processes)))


def _end(process: psutil.Popen) -> None:
    """It and whatever it started: nothing that still waits matters."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait(10)


def python(module: str, *arguments: str) -> list[str]:
    """A command that runs a module with this Python."""
    return [sys.executable, "-m", module, *arguments]
