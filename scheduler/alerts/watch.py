"""Looks for problems and tells the operator, in a thread of its own: nothing here holds up the scheduler.

What is open is kept in PostgreSQL, so that of several scheduler processes one tells each alert. That the database
itself is away is told without it.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog

from jobs.errors import Unavailable
from jobs.queues import AsyncDoorbell, RedisError
from jobs.settings import Settings
from jobs.store.database import AsyncDatabase, AsyncSession, Row
from jobs.webhooks.sender import Sender
from scheduler.alerts.formats import Notice, body_of, was_taken
from scheduler.alerts.rules import DATABASE_AWAY, REDIS_AWAY, RULES

log = structlog.get_logger(__name__)

_LOOK_SECONDS: Final = 5.0
_PATIENCE_SECONDS: Final = 10.0  # for which servers may be away unnoticed: restarts are no news
_CALM_SECONDS: Final = 30.0  # for which a problem must be gone
_SUM_SECONDS: Final = 300.0  # what happens within them after a notice is summed up in the next one
_REPEAT_SECONDS: Final = 3600.0  # after which a lasting problem is told again
_LEASE_SECONDS: Final = 60.0
_REDIS_SECONDS: Final = 3.0
_ANSWER_BYTES: Final = 4096
_STOP_SECONDS: Final = 2.0
_AWAY_KEY: Final = "pressroom:alert:database"


@dataclass(slots=True)
class _Outage:
    """A server that does not answer, on the watch's clock."""

    since: float | None = None
    told: bool = False

    def seconds(self, now: float) -> float:
        """For how long; 0 when it is none, or too short to be news."""
        lasted = 0.0 if self.since is None else now - self.since
        return lasted if lasted >= _PATIENCE_SECONDS else 0.0


class Watch:
    """One scheduler process's watch."""

    def __init__(self, settings: Settings, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`name` tells scheduler processes apart; `clock` gives seconds."""
        self._settings = settings
        self._name = name
        self._clock = clock
        self._url = settings.alert_webhook_url
        self._database_away = _Outage()
        self._redis_away = _Outage()
        self._thread = threading.Thread(target=self._work, name="alerts", daemon=True)
        self._stopping = asyncio.Event()

    def start(self) -> None:
        """Begin, in a thread."""
        self._loop = asyncio.new_event_loop()
        self._thread.start()

    def stop(self) -> None:
        """End soon; what is not told yet is told by another process."""
        with suppress(RuntimeError):  # it has ended by itself
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(_STOP_SECONDS)

    def _work(self) -> None:
        try:
            self._loop.run_until_complete(self._run())
        except Exception:
            log.exception("alerts have ended")
        finally:
            self._loop.close()

    async def _run(self) -> None:
        async with self.opened():
            while not self._stopping.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await self._stopping.wait()
                        return
                try:
                    await self.look()
                    await self.tell()
                except Exception:
                    log.exception("looking for problems failed")

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["Watch"]:
        """With its connections, on this event loop."""
        self._redis = AsyncDoorbell(self._settings.redis_url)
        self._sender = Sender.to_operator(self._url) if self._url else None
        self._database = AsyncDatabase(self._settings.database_url, max_size=1)
        try:
            async with self._database.opened():
                yield self
        finally:
            await self._redis.aclose()
            if self._sender:
                await self._sender.aclose()

    async def look(self) -> None:
        """Note what is wrong, and what no longer is."""
        if await self._redis_answers():
            self._redis_away = _Outage()
        elif self._redis_away.since is None:
            self._redis_away.since = self._clock()
        try:
            async with self._database.transaction() as session:
                if lasted := self._database_away.seconds(self._clock()):
                    # It was told without the database; what is left to tell is its end.
                    words, told = DATABASE_AWAY.words({"subject": ""}), self._database_away.told
                    await session.all("open_alert", {**words, "ago": lasted, "told": told, "tell": False})
                (turn,) = await session.all("begin_look")
                if turn["is_mine"]:
                    await self._find(session, turn)
        except Unavailable as error:
            await self._tell_without_database(error)
        else:
            self._database_away = _Outage()

    async def tell(self) -> None:
        """Tell what is to be told, until the receiver fails."""
        while self._url:
            try:
                claimed = await self._database.all("claim_alert", {"lease": _LEASE_SECONDS})
                if not claimed:
                    return
                (alert,) = claimed
                if not await self._post(Notice.of(alert)):
                    await self._database.all("postpone_alert", {"id": alert["id"]})
                    return
                told = {"id": alert["id"], "status": alert["status"], "repeat": _REPEAT_SECONDS}
                await self._database.all("told_alert", told)
            except Unavailable:
                return  # looking finds that out, too

    async def _find(self, session: AsyncSession, turn: Row) -> None:
        noted = {row["rule"]: row for row in await session.all("last_noted", {"pause": _SUM_SECONDS})}
        if lasted := self._redis_away.seconds(self._clock()):
            await self._open(session, REDIS_AWAY.words({"subject": ""}), lasted)
        for rule in RULES:
            last = noted.get(rule.name)
            if not rule.statement or (last and last["is_fresh"]):
                continue
            since = last["seen_at"] if last else turn["earliest"]
            facts = {"since": since, "until": turn["until"], "queue_age": self._settings.alert_queue_age_seconds}
            for row in await session.all(rule.statement, facts):
                if rule.is_event:
                    note = {**rule.words(row), "until": turn["until"], "tell": bool(self._url)}
                    await session.all("note_alert", note)
                    log.warning("alert", rule=rule.name, title=note["title"])
                else:
                    await self._open(session, rule.words(row))
        for row in await session.all("resolve_alerts", {"calm": _CALM_SECONDS, "tell": bool(self._url)}):
            log.info("alert resolved", rule=row["rule"], subject=row["subject"])

    async def _open(self, session: AsyncSession, words: dict[str, str], ago: float = 0.0) -> None:
        await session.all("open_alert", {**words, "ago": ago, "told": False, "tell": bool(self._url)})

    async def _tell_without_database(self, error: Unavailable) -> None:
        outage, now = self._database_away, self._clock()
        if outage.since is None:
            outage.since = now
            log.warning("no database for alerts", reason=str(error))
        if not self._url or outage.told or not outage.seconds(now) or not await self._is_ours():
            return
        words = DATABASE_AWAY.words({"subject": ""})
        outage.told = await self._post(Notice.of({**words, "status": "OPEN", "opened_at": datetime.now(UTC)}))

    async def _is_ours(self) -> bool:
        """Whether this process is the one to tell of the database; all are while Redis is away, too."""
        client = self._redis.client
        try:
            async with asyncio.timeout(_REDIS_SECONDS):
                lease = int(_LEASE_SECONDS)
                if await client.set(_AWAY_KEY, self._name, nx=True, ex=lease):
                    return True
                return bool(await client.get(_AWAY_KEY) in (self._name, self._name.encode()))
        except (RedisError, OSError, TimeoutError):
            return True

    async def _redis_answers(self) -> bool:
        try:
            async with asyncio.timeout(_REDIS_SECONDS):
                await self._redis.client.ping()
        except (RedisError, OSError, TimeoutError):
            return False
        return True

    async def _post(self, notice: Notice) -> bool:
        """Whether the receiver took it."""
        if not self._url or not self._sender:
            return False
        as_format = self._settings.alert_format
        answer = await self._sender.post(self._url, body_of(notice, as_format), keep=_ANSWER_BYTES)
        if answer.is_success and was_taken(as_format, answer.content):
            return True
        reason = answer.error or "refused"
        log.warning("alert not delivered", rule=notice.rule, status_code=answer.status_code, reason=reason)
        return False
