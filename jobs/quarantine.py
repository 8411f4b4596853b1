"""Finds the task that kills its worker.

Which of a hundred tasks did it cannot be seen from outside. So no attempt is counted for a task whose worker was
lost, only the loss; and one that was lost twice, or would fail at the next loss, is a suspect: a worker runs it while
no other suspect runs, and notes in PostgreSQL which it is. The others, which wait for their turn, are not blamed.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from jobs.store.database import AsyncDatabase


class Quarantine:
    """One worker's."""

    def __init__(self, database: AsyncDatabase) -> None:
        self.worker_id: int | None = None
        self._database = database
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def alone(self, task_id: int) -> AsyncIterator[None]:
        """Wait for the turn of a suspect; it lasts for the block.

        Raises:
            Unavailable: it cannot be noted now.
        """
        async with self._turn:
            await self._database.all("suspect", {"id": self.worker_id, "task_id": task_id})
            yield
