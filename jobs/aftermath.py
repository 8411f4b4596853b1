"""A worker's side of what follows from ended tasks: beside its event loop, in a thread."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import structlog

from jobs import hooks
from jobs.errors import Unavailable
from jobs.followups import Followups
from jobs.lifecycle import TERMINAL
from jobs.queues import Doorbell
from jobs.store.database import Database, Refused, Row

log = structlog.get_logger(__name__)

_PAUSE_SECONDS: Final = 0.05  # after what was seen to at once: of many tasks that end, some wait for each other


class Aftermath:
    """Gathers transitions whose commit something follows, and sees to it."""

    def __init__(self, database_url: str, connection: Any) -> None:
        self._database = Database(database_url, max_size=1)
        self._followups = Followups(self._database, Doorbell(connection))
        self._rows: list[Row] = []
        self._arrived = asyncio.Event()

    def follows(self, rows: Sequence[Row]) -> None:
        """These tasks have moved."""
        hooks.tell(rows)
        ended = [row for row in rows if row["status"] in TERMINAL and (row["has_children"] or row["batch_id"])]
        if ended:
            self._rows += ended
            self._arrived.set()

    async def run(self) -> None:
        """See to what follows, for ever. What fails is left to the reconciler."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            rows, self._rows = self._rows, []
            try:
                await asyncio.to_thread(self._see_to, rows)
            except (Unavailable, RuntimeError, *Refused) as error:  # RuntimeError: no thread can be started now
                log.warning("left to the reconciler", tasks=len(rows), reason=type(error).__name__)
            await asyncio.sleep(_PAUSE_SECONDS)

    def _see_to(self, rows: Sequence[Row]) -> None:
        self._database.open()
        self._followups.after(rows)

    def close(self) -> None:
        """Give the connection back."""
        self._database.close()
