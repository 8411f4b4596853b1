"""What those who watch a task see while it happens: progress, and text as it is generated.

Redis channels: `pressroom:moved` carries `{"tasks": [ids], "left": [ids], "batches": [ids]}`: these tasks have moved,
PostgreSQL knows where to; these of them are in another state than PROCESSING, and all their text was told before; tasks
of these batches have ended. `pressroom:live:ID` carries `{"type": "progress", "fence", "percent", "message"}` and
`{"type": "text", "fence", "offset", "text"}` of one task. `pressroom:text:ID:FENCE` holds the text of one attempt so
far. The fence tells attempts apart: the newest has the highest. Offsets count characters.
"""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

import orjson
import structlog

from jobs import hooks
from jobs.errors import Unavailable
from jobs.fields import storable
from jobs.lifecycle import TERMINAL, Status
from jobs.queues import AsyncClient, CacheClient, RedisError
from jobs.store.database import AsyncDatabase, Row

log = structlog.get_logger(__name__)

MOVED: Final = "pressroom:moved"
LIVE_SECONDS: Final = 0.1
"""How often watchers are told: text that is generated looks fluent so."""

_STORE_EVERY: Final = 10  # of these, progress is kept in PostgreSQL
_TEXT_TTL: Final = 3600


def live_channel(task_id: int) -> str:
    """Where a task's progress and text are told."""
    return f"pressroom:live:{task_id}"


def text_key(task_id: int, fence: int) -> str:
    """Where an attempt's text so far is."""
    return f"pressroom:text:{task_id}:{fence}"


def moved_message(rows: Collection[Row]) -> bytes:
    """What `pressroom:moved` is told of transitions."""
    left = [row["id"] for row in rows if row["status"] != Status.PROCESSING]
    batches = {row["batch_id"] for row in rows if row["batch_id"] and row["status"] in TERMINAL}
    return orjson.dumps({"tasks": [row["id"] for row in rows], "left": left, "batches": list(batches)})


def tell(connection: CacheClient, moved: Sequence[Row]) -> None:
    """Tell listeners and watchers of committed transitions that no worker made.

    While Redis is away, watchers look for themselves.
    """
    if not moved:
        return
    hooks.tell(moved)
    try:
        connection.publish(MOVED, moved_message(moved))
    except RedisError as error:
        log.warning("watchers not told", tasks=len(moved), reason=str(error))


class _Text:
    """The text of one attempt; pieces may arrive in any thread."""

    def __init__(self, task_id: int, fence: int) -> None:
        self.task_id = task_id
        self.fence = fence
        self.pieces = [""]  # the first one is what was told, the others are new
        self.new = ""  # to be told with this flush
        self.length = 0  # in bytes, with what is new
        self._taken = 1

    @property
    def key(self) -> str:
        return text_key(self.task_id, self.fence)

    def take(self) -> bool:
        """Gather what is new; whether there is any."""
        self._taken = len(self.pieces)
        self.length -= len(self.new.encode())
        self.new = "".join(self.pieces[1 : self._taken])
        self.length += len(self.new.encode())
        return bool(self.new)

    def whole(self) -> str:
        """Everything up to what is new."""
        return self.pieces[0] + self.new

    def message(self) -> bytes:
        """What watchers are told."""
        told = {"type": "text", "fence": self.fence, "offset": len(self.pieces[0]), "text": self.new}
        return orjson.dumps(told)

    def told(self) -> None:
        """It was."""
        self.pieces[: self._taken] = [self.whole()]
        self.new = ""


class Live:
    """One worker's news, gathered and told a few times a second."""

    def __init__(self, client: AsyncClient, database: AsyncDatabase) -> None:
        self._redis = client
        self._database = database
        self._moved: list[Row] = []
        self._progress: dict[int, tuple[int, int, str | None]] = {}  # task -> fence, percent, message: to be told
        self._to_store: dict[int, tuple[int, int, str | None]] = {}
        self._texts: dict[int, _Text] = {}  # of attempts that are being made
        self._last_texts: list[_Text] = []  # of attempts that have ended
        self._turn = 0
        self._telling = asyncio.Lock()
        self.news = asyncio.Event()  # set while there are moves to be told, or what is left of tasks that ended

    def moved(self, rows: Iterable[Row]) -> None:
        """Tasks moved."""
        for row in rows:
            self._moved.append(row)
            self.news.set()

    def progress(self, task_id: int, fence: int, percent: int, message: str | None) -> None:
        """See `Line`. Only the newest is told. May be called in any thread."""
        self._progress[task_id] = self._to_store[task_id] = (fence, percent, message)

    def text(self, task_id: int, fence: int, piece: str) -> None:
        """See `Line`. May be called in any thread."""
        text = self._texts.get(task_id)
        if text is None or text.fence != fence:
            text = self._texts[task_id] = _Text(task_id, fence)
        text.pieces.append(storable(piece))

    def ended(self, task_id: int, fence: int) -> None:
        """An attempt is over, whether or not what it came to will be recorded: what is left of its text is told."""
        text = self._texts.get(task_id)
        if text and text.fence == fence:
            self._last_texts.append(self._texts.pop(task_id))
            self.news.set()

    async def flush(self) -> None:
        """Tell what was gathered.

        Raises:
            RedisError, Unavailable: text that was gathered is told with the next call, the rest is dropped.
        """
        # The end of the worker tells the last news while the loop may be at it.
        async with self._telling:
            self.news.clear()
            try:
                await self._flush()
            except (RedisError, Unavailable):
                self.news.set()
                raise

    async def _flush(self) -> None:
        moved, self._moved = self._moved, []
        progress, self._progress = self._progress, {}
        last, texts = list(self._last_texts), [*self._last_texts, *dict(self._texts).values()]
        texts = [text for text in texts if text.take()]
        if texts:
            await self._keep(texts)
        if moved or progress or texts:
            pipeline: Any = self._redis.pipeline(transaction=False)
            for task_id, (fence, percent, message) in progress.items():
                news = {"type": "progress", "fence": fence, "percent": percent, "message": message}
                pipeline.publish(live_channel(task_id), orjson.dumps(news))
            for text in texts:
                pipeline.publish(live_channel(text.task_id), text.message())
            if moved:
                # Last, so that a text is whole before its attempt is known to have ended.
                pipeline.publish(MOVED, moved_message(moved))
            await pipeline.execute()
        for text in texts:
            text.told()
        del self._last_texts[: len(last)]
        await self._store_progress()

    async def _keep(self, texts: Collection[_Text]) -> None:
        """Append to the texts in Redis; where a part of one is not there (any more), store it as a whole."""
        pipeline: Any = self._redis.pipeline(transaction=False)
        for text in texts:
            pipeline.append(text.key, text.new)
            pipeline.expire(text.key, _TEXT_TTL)
        lengths = (await pipeline.execute())[::2]
        for text, length in zip(texts, lengths, strict=True):
            if length != text.length:
                pipeline.set(text.key, text.whole(), ex=_TEXT_TTL)
        if len(pipeline):
            await pipeline.execute()

    async def _store_progress(self) -> None:
        self._turn += 1
        if self._to_store and self._turn % _STORE_EVERY == 0:
            stored, self._to_store = self._to_store, {}
            ids = sorted(stored)
            fences, percents, messages = zip(*(stored[task_id] for task_id in ids), strict=True)
            await self._database.all(
                "note_progress",
                {"ids": ids, "fences": list(fences), "percents": list(percents), "messages": list(messages)},
            )
