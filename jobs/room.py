"""Room for more tasks: submissions are refused before so many wait that PostgreSQL suffers from it."""

import threading
from typing import Final

from jobs.errors import TooManyPending
from jobs.pace import Pace
from jobs.store.database import Database, Session

_KNOWN_SECONDS: Final = 1.0
_SHARE: Final = 0.05  # of the time, at most, that counting may take


class Room:
    """Knows how many tasks wait, as of a moment ago, with what this process added since."""

    def __init__(self, most: int) -> None:
        """`most`: MAX_PENDING; 0 is no limit."""
        self._most = most
        self._waiting = 0
        self._pace = Pace(_SHARE, least=_KNOWN_SECONDS)
        self._counting = threading.Lock()

    def take(self, store: Database | Session, wanted: int) -> None:
        """Make sure that so many more tasks may wait.

        Raises:
            TooManyPending: they may not.
        """
        if not self._most:
            return
        if not self._pace.rest and self._counting.acquire(blocking=False):
            try:
                with self._pace.at_work():
                    self._count(store)
            finally:
                self._counting.release()
        if self._waiting + wanted > self._most:
            raise TooManyPending(f"{self._waiting} tasks are waiting; no more than {self._most} may. Try again later.")
        self._waiting += wanted

    def _count(self, store: Database | Session) -> None:
        counted = store.one("count_waiting", {"limit": self._most})
        self._waiting = counted["tasks"] if counted else 0
