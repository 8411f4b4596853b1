"""What follows from ended tasks beyond their own transaction: children are released, batches are closed.

Both can be found in the database at any time, so it does no harm when a process dies in between: the reconciler
looks, too.
"""

import math
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import structlog

from jobs import hooks
from jobs.lifecycle import TERMINAL, Status
from jobs.live import tell
from jobs.queues import Doorbell, RedisError
from jobs.store.database import Database, Row

log = structlog.get_logger(__name__)

_AT_ONCE: Final = 4000  # children in one transaction: each waits for the interpreter a few times


class Released(NamedTuple):
    """What was released: the batches of which tasks failed with it, and whether it was all that there was."""

    batches: set[int]
    is_all: bool


class Followups:
    """Releases children and closes batches. All methods raise `Unavailable`; nothing is then half done."""

    def __init__(self, database: Database, doorbell: Doorbell) -> None:
        self._database = database
        self._doorbell = doorbell

    def after(self, moved: Collection[Row]) -> None:
        """See to what follows from these transitions."""
        ended = [row for row in moved if row["status"] in TERMINAL]
        batches = {row["batch_id"] for row in ended if row["batch_id"]}
        if any(row["has_children"] for row in ended):
            batches |= self.release().batches
        if batches:
            self.close(batches)

    def release(self, patience: float = math.inf) -> Released:
        """Release, or fail, the children of parents that have ended; for about so many seconds at most."""
        began = time.monotonic()
        batches: set[int] = set()
        # Redis is told of some while PostgreSQL moves the next.
        with ThreadPoolExecutor(1, thread_name_prefix="release") as beside:
            while True:
                with self._database.transaction() as session:
                    parents = [row["id"] for row in session.all("lock_parents")]
                    if not parents:
                        return Released(batches, is_all=True)
                    rows = session.all("release_children", {"parents": parents, "limit": _AT_ONCE}, keep_plan=False)
                    moved = [row for row in rows if row["status"] != Status.BLOCKED]
                    hooks.run(session, moved)
                batches |= {row["batch_id"] for row in moved if row["status"] == Status.FAILED and row["batch_id"]}
                beside.submit(self._tell, moved)
                if time.monotonic() - began > patience:
                    return Released(batches, is_all=False)

    def _tell(self, moved: Sequence[Row]) -> None:
        tell(self._doorbell.connection, moved)
        try:
            self._doorbell.announce(row for row in moved if row["announced_at"])
        except RedisError as error:
            log.warning("released, but not announced yet", tasks=len(moved), reason=str(error))

    def close(self, ids: Collection[int] | None = None) -> None:
        """Close those of the batches (all when None) whose tasks have ended."""
        with self._database.transaction() as session:
            open_ones = session.all("lock_batches", {"ids": None if ids is None else list(ids)})
            closed = session.all("close_batches", {"ids": [row["id"] for row in open_ones]})
            for statement in hooks.BATCH_HOOKS:
                session.all(statement, {"ids": [batch["id"] for batch in closed if batch["has_callback"]]})
