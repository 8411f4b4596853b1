"""Delivers callbacks, beside a worker's tasks: no slot is held, and a slow receiver holds up none but itself.

Any number of workers share the work. Delivered at least once: one whose worker died in the middle is tried again.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from jobs.callbacks import POLICY, body_of, judge, made_up
from jobs.errors import Unavailable
from jobs.retry import RetryPolicy
from jobs.settings import Settings
from jobs.store.database import AsyncDatabase, Json, Row
from jobs.webhooks.sender import TIMEOUT_SECONDS, Answer, Sender
from jobs.webhooks.signing import key_of, signed_headers

log = structlog.get_logger(__name__)

_AT_ONCE: Final = 50
_EACH: Final = 5  # of these, with one receiver
_LEASE_SECONDS: Final = 3 * TIMEOUT_SECONDS
_POLL_SECONDS: Final = 1.0
_GATHER_SECONDS: Final = 0.01
_PAUSE_SECONDS: Final = 1.0  # while PostgreSQL is away
_STOP_SECONDS: Final = 1.0


class Deliverer:
    """One worker's share of the deliveries."""

    def __init__(self, settings: Settings, policy: RetryPolicy = POLICY) -> None:
        # Its own connection: the worker's are for tasks.
        self._database = AsyncDatabase(settings.database_url, max_size=1)
        self._sender = Sender.to_others(settings.callback_allowed_networks)
        self._key = key_of(settings.callback_secret) if settings.callback_secret else None
        self._policy = policy
        self._running: dict[asyncio.Task[None], str] = {}  # to which receiver
        self._ended: list[dict[str, Any]] = []  # tries to be recorded
        self._woken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def notice(self, rows: Sequence[Row]) -> None:
        """A listener (see jobs/hooks.py): tasks have ended here. May be called in any thread."""
        if self._loop and any(row["has_callback"] for row in rows):
            self._loop.call_soon_threadsafe(self._woken.set)

    async def run(self) -> None:
        """Deliver, for ever. When cancelled, what is under way is left to others at once."""
        self._loop = asyncio.get_running_loop()
        async with self._database.opened():
            try:
                while True:
                    await self._turn()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_POLL_SECONDS):
                            await self._woken.wait()
                    await asyncio.sleep(_GATHER_SECONDS)
                    self._woken.clear()
            finally:
                self._loop = None
                await self._stop()

    async def _turn(self) -> None:
        """Record what has ended, and begin what is due."""
        try:
            if self._key is None:
                self._key = key_of((await self._database.all("keep_secret", made_up()))[0]["value"])
            # Each a transaction of its own: most of the time there is nothing to record.
            if self._ended:
                await self._record()
            busy = Counter(self._running.values())
            room = {"room": _AT_ONCE - len(self._running), "each": _EACH, "busy": Json(busy)}
            claimed = await self._database.all("claim_callbacks", {**room, "lease": _LEASE_SECONDS})
        except Unavailable as error:
            log.warning("callbacks wait for the database", to_record=len(self._ended), reason=str(error))
            await asyncio.sleep(_PAUSE_SECONDS)
            return
        for row in claimed:
            task = asyncio.create_task(self._deliver(row, self._key))
            self._running[task] = row["receiver"]
            task.add_done_callback(self._done)

    async def _record(self) -> None:
        ended = list(self._ended)
        recorded = await self._database.all("record_deliveries", {"outcomes": Json(ended)})
        del self._ended[: len(ended)]
        for row in recorded:
            if row["status"] == "FAILED":
                log.warning("callback given up", callback_id=row["id"], receiver=row["receiver"])

    def _done(self, task: "asyncio.Task[None]") -> None:
        del self._running[task]
        self._woken.set()
        if not task.cancelled() and (error := task.exception()):
            # Tried again after its lease.
            log.error("delivering raised", exc_info=error)

    async def _deliver(self, row: Row, key: bytes) -> None:
        began = datetime.now(UTC)
        tries = row["attempts"] - row["tries_before"]
        try:
            body = body_of(row)
            headers = signed_headers(key, row["webhook_id"], int(time.time()), body)
            answer = await self._sender.post(row["callback_url"], body, headers)
            verdict = judge(answer, tries, self._policy, random.random())  # noqa: S311
            status, delay = verdict.status, verdict.delay
        except asyncio.CancelledError:
            answer = Answer(None, "the worker stopped", None, (datetime.now(UTC) - began).total_seconds())
            status, delay = "PENDING", 0.0
        log.debug("callback tried", callback_id=row["id"], status_code=answer.status_code, error=answer.error)
        self._ended.append({
            "id": row["id"], "number": row["attempts"], "at": began, "status_code": answer.status_code,
            "error": answer.error, "duration": answer.seconds, "status": status, "delay": delay,
        })  # fmt: skip

    async def _stop(self) -> None:
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(list(self._running), timeout=_STOP_SECONDS)
        await self._sender.aclose()
        with suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                if self._ended:
                    await self._record()
