"""Finds the task that kills its worker.

Which of a hundred tasks did it cannot be seen from outside. So no attempt is counted for a task whose worker was
lost, only the loss; and one that was lost twice, or would fail at the next loss, is a suspect: a worker runs it while
no other suspect runs, and notes in PostgreSQL which it is. The others, which wait for their turn, are not blamed; nor
do they wait here for long, where each of them would hold a slot.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from jobs.errors import PressroomError
from jobs.store.database import AsyncDatabase

_PATIENCE_SECONDS: Final = 1.0
_LONGEST_PAUSE: Final = 30.0


class NotItsTurn(PressroomError):
    """Another suspect runs, and goes on running.

    Attributes:
        pause: seconds after which to try again.
    """

    def __init__(self, pause: float) -> None:
        self.pause = pause
        super().__init__(f"not its turn for {pause:g} s")


class Quarantine:
    """One worker's."""

    def __init__(self, database: AsyncDatabase) -> None:
        self.worker_id: int | None = None
        self._database = database
        self._turn = asyncio.Lock()
        self._waiting = 0

    @asynccontextmanager
    async def alone(self, task_id: int) -> AsyncIterator[None]:
        """Wait a moment for the turn of a suspect; it lasts for the block.

        Raises:
            NotItsTurn: it did not come.
            Unavailable: it cannot be noted now.
        """
        await self._wait()
        try:
            await self._database.all("suspect", {"id": self.worker_id, "task_id": task_id})
            yield
        finally:
            self._turn.release()

    async def _wait(self) -> None:
        self._waiting += 1
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._turn.acquire()
        except TimeoutError:
            # Those that waited together come back one after another, about one a second.
            raise NotItsTurn(min(float(self._waiting), _LONGEST_PAUSE)) from None
        finally:
            self._waiting -= 1
