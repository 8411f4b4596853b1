"""What RQ's tools should see of a worker, gathered and written in one script call a moment later.

RQ's own bookkeeping costs dozens of commands a job. Here a task that starts and ends between two writes
is never shown as running, and the others get just the keys that `rq info` and rq-dashboard read.
"""

import asyncio
import time
from collections import deque
from datetime import datetime
from typing import Any, Final

import orjson
import redis.asyncio

from jobs.lifecycle import Status
from jobs.priority import QueueName
from jobs.queues import entry, script, timestamp
from jobs.store.database import Row

_GRACE_SECONDS: Final = 60  # how long after its time-out the picture of a running task may stay
_PAGES_KEPT: Final = 100  # unwritten pages kept while Redis is away; what they ring, the reconciler knows too

Run = tuple[int, int]
"""A task's id and the fence of its claim."""


class Ledger:
    """Collects starts and ends of one worker's tasks."""

    def __init__(self, client: "redis.asyncio.Redis", worker: str, ttl: int) -> None:
        self._write = client.register_script(script("ledger"))
        self._worker = worker
        self._ttl = ttl
        self._running: dict[Run, tuple[QueueName, int]] = {}  # -> queue, Unix time at which the picture expires
        self._pages: deque[bytes] = deque(maxlen=_PAGES_KEPT)
        self._writing = asyncio.Lock()
        self.news = asyncio.Event()  # set while there is something to write
        self._turn_page()

    def _turn_page(self) -> None:
        self._started: dict[Run, tuple[QueueName, int]] = {}
        self._page: dict[str, Any] = {
            "ended": [],
            "later": [],
            "back": {},
            "succeeded": 0,
            "failed": 0,
            "seconds": 0.0,
        }
        self._written = True

    def _note(self) -> None:
        self._written = False
        self.news.set()

    def started(self, run: Run, queue: QueueName, timeout: int) -> None:
        """A task began."""
        self._running[run] = self._started[run] = (queue, int(time.time()) + timeout + _GRACE_SECONDS)
        self._note()

    def ended(self, run: Run, status: Status | None, seconds: float) -> None:
        """A task's attempt is over; `status` is None when another worker owns the task now."""
        queue, _ = self._running.pop(run)
        self._started.pop(run, None)
        outcome = "failed" if status is Status.FAILED else "gone"
        self._page["ended"].append((str(run[0]), str(run[1]), queue, outcome))
        self._page["succeeded"] += status is Status.COMPLETED
        self._page["failed"] += status is Status.FAILED
        self._page["seconds"] += seconds
        self._note()

    def later(self, task_id: int, queue: QueueName, due: datetime) -> None:
        """A task is to be announced again at a later time."""
        self._page["later"].append((str(task_id), queue, due.timestamp()))
        self._note()

    def back(self, task: Row) -> None:
        """A task (`id`, `queue`, `pool`, `owner`) returns to the front of its queue."""
        self._page["back"].setdefault(task["queue"], []).append(entry(task, is_first=True))
        self._note()

    def show_again(self) -> None:
        """Redis lost its data: write all running tasks anew with the next page."""
        self._started = dict(self._running)
        self._note()

    async def flush(self) -> None:
        """Write what was gathered.

        Raises:
            RedisError: Redis does not answer; what was gathered goes with the next call.
        """
        if not self._written:
            self._pages.append(
                orjson.dumps({
                    **self._page,
                    "worker": self._worker, "now": timestamp(), "time": time.time(), "ttl": self._ttl,
                    "state": "busy" if self._running else "idle",
                    "started": [(str(run[0]), str(run[1]), *shown) for run, shown in self._started.items()],
                })
            )  # fmt: skip
            self._turn_page()
        # The end of the worker writes while the loop may be at it.
        async with self._writing:
            while self._pages:
                await self._write(args=[self._pages[0]])
                self._pages.popleft()
        if self._written:
            self.news.clear()
