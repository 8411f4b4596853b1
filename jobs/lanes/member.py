"""A member of the process lane: `python -m jobs.lanes.member FD` performs one task after another for its worker.

It ends with its worker, however that ends; what it computes in between can be killed without harm to others.
"""

import contextlib
import ctypes
import os
import queue
import resource
import signal
import socket
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from jobs import logs, settings
from jobs.errors import DATABASE_AWAY, AttemptError, Cancelled, Unavailable
from jobs.handlers import registry
from jobs.handlers.context import Context
from jobs.handlers.registry import TaskType
from jobs.lanes import messages
from jobs.profiling import profiled
from jobs.providers import catalog
from jobs.settings import Settings

log = structlog.get_logger(__name__)

_PROGRESS_SECONDS = 0.1
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


class Wire:
    """The socket to the worker; also what a context reports to."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._reader = self._socket.makefile("rb")
        self._sending = threading.Lock()
        self._newest: tuple[int, str | None] | None = None  # progress that the worker has not heard of
        self._has_news = threading.Event()

    def send(self, message: dict[str, Any]) -> None:
        """Say something to the worker."""
        line = messages.pack(message)
        with self._sending:
            self._socket.sendall(line)

    def read(self) -> bytes:
        """The next message; empty when the worker is gone."""
        return self._reader.readline()

    def progress(self, task_id: int, fence: int, percent: int, message: str | None) -> None:
        """See `Line`. Costs next to nothing: what is said is sent a few times a second, by `send_progress`."""
        self._newest = (percent, message)
        self._has_news.set()

    def forget_progress(self) -> None:
        """The attempt is over: what was not sent yet must not be taken for the next one's."""
        with self._sending:
            self._newest = None

    def send_progress(self) -> None:
        """For ever."""
        while True:
            self._has_news.wait()
            self._has_news.clear()
            with self._sending:
                if newest := self._newest:
                    self._socket.sendall(messages.pack({"progress": newest}))
            time.sleep(_PROGRESS_SECONDS)

    def text(self, task_id: int, fence: int, piece: str) -> None:
        """See `Line`."""
        self.send({"text": piece})


def perform(kind: TaskType | None, context: Context, wire: Wire) -> None:
    """One attempt; everything that goes wrong in it becomes a message."""
    cpu = time.process_time()
    _forget_peak()
    context.enter()
    try:
        if kind is None:
            raise LookupError(f"no handler for {context.facts.task_type!r} in this process")
        with profiled(context):
            answer: dict[str, Any] = {"done": kind.handler(context)}
        messages.pack(answer)  # now, so that a result that is not JSON is this attempt's failure
    except AttemptError as failure:
        answer = {"failed": "error", "error": asdict(failure.error)}
    except Unavailable:
        answer = {"failed": "error", "error": asdict(DATABASE_AWAY)}
    except Cancelled:
        answer = {"failed": "cancelled"}
    except (Exception, SystemExit) as surprise:
        context.log.exception("handler raised")
        answer = {"failed": "raised", "kind": type(surprise).__name__}
    wire.forget_progress()
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wire.send({
        **answer,
        "cpu_seconds": round(time.process_time() - cpu, 3),
        "peak_memory_mb": round(peak_kib / 1024, 1),
        "usage": context.usage, "profile": context.profile_page,
    })  # fmt: skip


def _forget_peak() -> None:
    """Have the kernel count the largest memory anew (proc(5), clear_refs); elsewhere it is the process's so far."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _end_with_worker() -> None:
    """Have the kernel kill this process when its worker dies, where the kernel can (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


def _leave_signals_to_worker() -> None:
    """Go on when everybody is told to end, as by Ctrl-C or Heroku: the worker decides what becomes of its members."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Not ignored, which programs that a handler starts would inherit: it could not terminate() them.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.siginterrupt(signal.SIGTERM, False)
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))


def main(fd: int, worker: int) -> None:
    """Serve until the worker closes the line."""
    _end_with_worker()
    if os.getppid() != worker:
        return  # it died before that took effect
    _leave_signals_to_worker()
    configured = settings.load()
    logs.configure(configured, "worker", catalog.keys(configured))
    types = registry.load(configured.handler_modules)
    wire = Wire(fd)
    wire.send({"ready": True})
    tasks: queue.SimpleQueue[Context] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(wire, tasks, configured), daemon=True).start()
    threading.Thread(target=wire.send_progress, daemon=True).start()
    while True:
        context = tasks.get()
        facts = context.facts
        with logs.about(
            task_id=facts.task_id, task_type=facts.task_type, attempt=facts.attempt, request_id=facts.request_id
        ):  # fmt: skip
            perform(types.get(facts.task_type), context, wire)


def _listen(wire: Wire, tasks: "queue.SimpleQueue[Context]", configured: Settings) -> None:
    """Read what the worker says; when it says nothing any more, end, whatever is being computed."""
    while line := wire.read():
        tasks.put(Context(messages.unpack_task(line), configured, wire))
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
