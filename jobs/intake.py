"""Takes task ids off the queues while there is room, and claims the tasks."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from jobs.attempt import Claim
from jobs.errors import Unavailable
from jobs.lifecycle import CLAIMABLE, Status, sources
from jobs.priority import QueueName
from jobs.queues import AsyncDoorbell, RedisError
from jobs.slots import SlotBudget
from jobs.store.database import AsyncDatabase

log = structlog.get_logger(__name__)

_GATHER_SECONDS: Final = 0.002  # lets several slots become free before the next round trip
_SUSPENDED_SECONDS: Final = 1.0
_PAUSES: Final = (0.1, 0.5, 1.0, 2.0)  # between tries while Redis or PostgreSQL is away
_SOURCES = sources(Status.PROCESSING, CLAIMABLE)


class Intake:
    """Keeps the slots filled, most urgent queue first, until told to stop."""

    def __init__(
        self,
        database: AsyncDatabase,
        doorbell: AsyncDoorbell,
        slots: SlotBudget,
        worker: str,
        start: Callable[[Claim], None],
    ) -> None:
        self.worker_id: int | None = None
        self.suspended = False
        self._database = database
        self._doorbell = doorbell
        self._slots = slots
        self._worker = worker
        self._start = start
        self._stopping = False
        self._changed = asyncio.Event()

    def slot_freed(self) -> None:
        """A task ended: there may be room for another."""
        self._changed.set()

    def stop(self) -> None:
        """Take no more tasks."""
        self._stopping = True
        self._changed.set()

    async def run(self) -> None:
        """Take, claim and start tasks until `stop`."""
        failures = 0
        while not self._stopping:
            try:
                await self._round()
                failures = 0
            except (RedisError, Unavailable, OSError) as error:
                pause = _PAUSES[min(failures, len(_PAUSES) - 1)]
                failures += 1
                log.warning("cannot take tasks, trying again", reason=str(error), pause=pause)
                await asyncio.sleep(pause)

    async def _round(self) -> None:
        self._changed.clear()
        room = self._slots.room()
        if not any(room.values()):
            await self._changed.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            return
        ids = await self._doorbell.take(room)
        self.suspended = ids is None
        if ids is None:  # by `rq suspend`
            await asyncio.sleep(_SUSPENDED_SECONDS)
            return
        if not ids:
            ids = await self._wait(room)
        if ids:
            await self._claim(ids)

    async def _wait(self, room: Mapping[QueueName, int]) -> list[int]:
        """Block on the queues that have room, until an id comes or more queues have room."""
        open_queues = _open(room)
        waiting = asyncio.ensure_future(self._doorbell.wait(open_queues))
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            while not waiting.done():
                await asyncio.wait({waiting, changed}, return_when=asyncio.FIRST_COMPLETED)
                if changed.done() and not waiting.done():
                    # A slot was freed; only a queue that had no room before is a reason to look again.
                    await asyncio.sleep(_GATHER_SECONDS)
                    self._changed.clear()
                    changed = asyncio.ensure_future(self._changed.wait())
                    if self._stopping or _open(self._slots.room()) != open_queues:
                        await self._end(waiting)
            return await waiting
        finally:
            changed.cancel()

    async def _end(self, waiting: "asyncio.Future[list[int]]") -> None:
        """Have the blocking command return. It is not cancelled: an id may be on its way already."""
        while not waiting.done():
            await self._doorbell.wake()
            await asyncio.wait({waiting}, timeout=_GATHER_SECONDS)

    async def _claim(self, ids: list[int]) -> None:
        # Should this fail, the reconciler finds that nobody heard these rings and repeats them.
        rows = await self._database.all(
            "claim_tasks",
            {"ids": ids, "sources": _SOURCES, "worker_id": self.worker_id, "worker": self._worker},
        )
        # The database returns them in the order of ids; the queues' order is the one to start in.
        position = {task_id: place for place, task_id in enumerate(ids)}
        for row in sorted(rows, key=lambda row: position[row["id"]]):
            self._start(Claim.from_row(row))


def _open(room: Mapping[QueueName, int]) -> list[QueueName]:
    return [queue for queue, count in room.items() if count > 0]
