"""Days that were made, read through a cache in Redis over PostgreSQL.

A worker puts a new day into the cache after its commit; a reader fills the cache only where it is empty.
So whatever the order, an old day never stays in the place of a newer one.
"""

from collections.abc import Mapping
from datetime import date
from typing import Any, Final

import orjson
import structlog

from jobs.queues import CacheClient, RedisError
from jobs.store.database import Database

log = structlog.get_logger(__name__)

KEEP_SECONDS: Final = 24 * 3600


def cache_key(day: date, account_id: int) -> str:
    """Where a day is cached; account 0 is the persona without one."""
    return f"pressroom:daily-life:{day.isoformat()}:{account_id}"


def cached(row: Mapping[str, Any]) -> bytes:
    """A day's row as it is cached and returned."""
    return orjson.dumps({**row, "account_id": row["account_id"] or None}, option=orjson.OPT_UTC_Z)


class DailyLives:
    """The reading side."""

    def __init__(self, database: Database, cache: CacheClient) -> None:
        self._database = database
        self._cache = cache

    def get(self, day: date, account_id: int) -> Any:
        """A day as JSON, from the cache or the database; None when there is none."""
        key = cache_key(day, account_id)
        try:
            if found := self._cache.get(key):
                return orjson.loads(found)
        except RedisError as error:
            log.warning("cache away", reason=str(error))
        row = self._database.one("get_daily_life", {"date": day, "account_id": account_id})
        if row is None:
            return None
        document = cached(row)
        try:
            self._cache.set(key, document, ex=KEEP_SECONDS, nx=True)
        except RedisError as error:
            log.warning("cache not filled", reason=str(error))
        return orjson.loads(document)
