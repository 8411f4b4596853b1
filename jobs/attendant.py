"""Sees to what attempts bring up while they run: models that are busy, soft limits, profiles."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

import structlog

from jobs.attempt import Claim
from jobs.errors import TaskError
from jobs.pools import Pools, pool_of
from jobs.queues import AsyncDoorbell
from jobs.store.database import AsyncDatabase

log = structlog.get_logger(__name__)

_GATHER_SECONDS: Final = 0.05  # attempts that began together are late together


class Attendant:
    """One worker's."""

    def __init__(self, database: AsyncDatabase, doorbell: AsyncDoorbell, pools: Pools, worker: str) -> None:
        self._database = database
        self._doorbell = doorbell
        self._pools = pools
        self._worker = worker
        self._late: list[int] = []
        self._errands: set[asyncio.Task[Any]] = set()

    def refused(self, task_id: int, fence: int, model: str, error: TaskError) -> None:
        """An endpoint is busy: nobody calls this model for as long as it asked."""
        pool = pool_of("coroutine", model)
        in_flight = self._pools.refused((task_id, fence), pool)
        log.info("the provider is busy", model=model, retry_after=error.retry_after)
        self._send(
            self._doorbell.refused(pool, self._worker, in_flight, error.retry_after), "tell that a model is busy"
        )

    def warn(self, claim: Claim) -> None:
        """An attempt has passed its soft limit."""
        log.warning("soft limit passed")
        if not self._late:
            self._send(self._note_late(), "note the soft limit")
        self._late.append(claim.id)

    def keep_profile(self, claim: Claim, page: str) -> None:
        """An attempt that was profiled has ended."""
        facts = {"id": claim.id, "attempt": claim.attempt, "page": page}
        self._send(self._database.all("keep_profile", facts), "keep the profile")

    async def _note_late(self) -> None:
        await asyncio.sleep(_GATHER_SECONDS)
        late, self._late = self._late, []
        await self._database.all("note_late", {"ids": late, "worker": self._worker})

    def _send(self, errand: Coroutine[Any, Any, Any], what: str) -> None:
        """Do something beside everything else; that it failed is logged."""

        def done(task: "asyncio.Task[Any]") -> None:
            self._errands.discard(task)
            if not task.cancelled() and (error := task.exception()):
                log.warning("could not " + what, reason=str(error))

        task = asyncio.create_task(errand)
        self._errands.add(task)
        task.add_done_callback(done)
