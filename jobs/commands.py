"""Commands to one worker, ours and RQ's own, from the channel that RQ has for it."""

import asyncio
from collections.abc import Awaitable, Callable, Set
from typing import Any, Final

import structlog
from rq.command import parse_payload

from jobs.beats import BEAT_SECONDS
from jobs.errors import Unavailable
from jobs.lifecycle import Status
from jobs.queues import CANCEL_COMMAND, AsyncClient, RedisError
from jobs.store.database import AsyncDatabase

log = structlog.get_logger(__name__)

_RQ_STOPS: Final = ("stop-job", "stop-execution")  # as `rq` and its dashboard send them
_PAUSE_SECONDS: Final = 0.5


class Commands:
    """Hears them, and does as they say."""

    def __init__(
        self,
        client: AsyncClient,
        database: AsyncDatabase,
        channel: str,
        cancel: Callable[[Set[int]], Awaitable[None]],
        stop: Callable[[], None],
    ) -> None:
        self._client = client
        self._database = database
        self._channel = channel
        self._cancel = cancel
        self._stop = stop

    async def listen(self) -> None:
        """For ever."""
        while True:
            try:
                async with self._client.pubsub() as pubsub:
                    await pubsub.subscribe(self._channel)
                    while True:
                        message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=BEAT_SECONDS)
                        if message:
                            await self._obey(message)
            except (RedisError, Unavailable, OSError) as error:
                log.warning("not listening for commands", channel=self._channel, reason=str(error))
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _obey(self, message: dict[str, Any]) -> None:
        try:
            payload = parse_payload(message)
            command = payload["command"]
            task_ids = {int(task_id) for task_id in payload.get("task_ids") or [payload.get("job_id", 0)]}
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError):
            log.warning("ignored a command that is not understood", channel=self._channel)
            return
        if command in _RQ_STOPS:
            # Only what runs: what waits is not this worker's.
            wish = {"ids": list(task_ids), "batch_id": None, "sources": [Status.PROCESSING.value]}
            await self._database.all("cancel_tasks", wish)
        if command in (*_RQ_STOPS, CANCEL_COMMAND):
            await self._cancel(task_ids)
        elif command == "shutdown":
            self._stop()
        else:
            log.info("ignored an RQ command", channel=self._channel, command=str(command))
