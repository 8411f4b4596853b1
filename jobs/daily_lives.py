"""Days that were made, read through a cache in Redis over PostgreSQL.

The cache's key names the task that made the day. PostgreSQL says which task that is; so a day that was made
anew is seen at once, whatever happened to the cache, and only the large part of the answer comes from it.
"""

from datetime import date
from typing import Any, Final

import orjson
import structlog

from jobs.queues import CacheClient, RedisError
from jobs.store.database import Database

log = structlog.get_logger(__name__)

KEEP_SECONDS: Final = 24 * 3600


class DailyLives:
    """The reading side."""

    def __init__(self, database: Database, cache: CacheClient) -> None:
        self._database = database
        self._cache = cache

    def get(self, day: date, account_id: int) -> Any:
        """A day as JSON (account 0: the persona without one); None when there is none."""
        which = {"date": day, "account_id": account_id}
        newest = self._database.one("daily_life_version", which)
        if newest is None:
            return None
        key = f"pressroom:daily-life:{day.isoformat()}:{account_id}:{newest['task_id']}"
        try:
            if found := self._cache.get(key):
                return orjson.loads(found)
        except RedisError as error:
            log.warning("cache away", reason=str(error))
        row = self._database.one("get_daily_life", which)
        if row is None:
            return None
        document = orjson.dumps({**row, "account_id": row["account_id"] or None}, option=orjson.OPT_UTC_Z)
        if row["task_id"] == newest["task_id"]:
            try:
                self._cache.set(key, document, ex=KEEP_SECONDS)
            except RedisError as error:
                log.warning("cache not filled", reason=str(error))
        return orjson.loads(document)
