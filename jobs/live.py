"""What those who watch a task see while it happens: progress, and text as it is generated.

Redis channels: `pressroom:moved` carries `{"tasks": [ids], "batches": [ids]}`: these have moved, PostgreSQL knows
where to. `pressroom:live:ID` carries `{"type": "progress", "percent", "message"}` and `{"type": "text", "offset",
"text"}` of one task; `pressroom:text:ID` holds the text of its newest attempt so far. Offsets count characters; a
text at offset 0 begins anew.
"""

from collections.abc import Iterable
from typing import Any, Final

import orjson

from jobs.lifecycle import TERMINAL
from jobs.queues import AsyncClient
from jobs.store.database import AsyncDatabase, Row

MOVED: Final = "pressroom:moved"
LIVE_SECONDS: Final = 0.1
"""How often watchers are told: text that is generated looks fluent so."""

_STORE_EVERY: Final = 10  # of these, progress is kept in PostgreSQL
_TEXT_TTL: Final = 3600


def live_channel(task_id: int) -> str:
    """Where a task's progress and text are told."""
    return f"pressroom:live:{task_id}"


def text_key(task_id: int) -> str:
    """Where a task's text so far is."""
    return f"pressroom:text:{task_id}"


def moved_message(rows: Iterable[Row]) -> bytes | None:
    """What `pressroom:moved` is told of transitions; None when there are none."""
    moved = list(rows)
    batches = {row["batch_id"] for row in moved if row["batch_id"] and row["status"] in TERMINAL}
    return orjson.dumps({"tasks": [row["id"] for row in moved], "batches": list(batches)}) if moved else None


class Live:
    """One worker's news, gathered and told a few times a second."""

    def __init__(self, client: AsyncClient, database: AsyncDatabase) -> None:
        self._redis = client
        self._database = database
        self._moved: list[Row] = []
        self._progress: dict[int, tuple[int, int, str | None]] = {}  # task -> fence, percent, message: to be told
        self._to_store: dict[int, tuple[int, int, str | None]] = {}
        self._texts: dict[int, list[str]] = {}
        self._offsets: dict[int, tuple[int, int]] = {}  # task -> fence, characters told
        self._turn = 0

    def moved(self, rows: Iterable[Row]) -> None:
        """Tasks moved."""
        self._moved += rows

    def progress(self, task_id: int, fence: int, percent: int, message: str | None) -> None:
        """See `Line`. Only the newest is told. May be called in any thread."""
        self._progress[task_id] = self._to_store[task_id] = (fence, percent, message)

    def text(self, task_id: int, fence: int, piece: str) -> None:
        """See `Line`. May be called in any thread."""
        if self._offsets.get(task_id, (None, 0))[0] != fence:
            self._offsets[task_id] = (fence, 0)
        self._texts.setdefault(task_id, []).append(piece)

    async def flush(self) -> None:
        """Tell what was gathered.

        Raises:
            RedisError, Unavailable: what was gathered since is told with the next call.
        """
        moved, self._moved = self._moved, []
        progress, self._progress = self._progress, {}
        texts, self._texts = self._texts, {}
        if moved or progress or texts:
            pipeline: Any = self._redis.pipeline(transaction=False)
            for task_id, (_, percent, message) in progress.items():
                news = {"type": "progress", "percent": percent, "message": message}
                pipeline.publish(live_channel(task_id), orjson.dumps(news))
            for task_id, pieces in texts.items():
                self._tell_text(pipeline, task_id, "".join(pieces))
            if told := moved_message(moved):
                # Last, so that a text is whole before its task is known to have ended.
                pipeline.publish(MOVED, told)
            await pipeline.execute()
        for row in moved:
            self._offsets.pop(row["id"], None)
        self._turn += 1
        if self._to_store and self._turn % _STORE_EVERY == 0:
            stored, self._to_store = self._to_store, {}
            ids = sorted(stored)
            fences, percents, messages = zip(*(stored[task_id] for task_id in ids), strict=True)
            await self._database.all(
                "note_progress",
                {"ids": ids, "fences": list(fences), "percents": list(percents), "messages": list(messages)},
            )

    def _tell_text(self, pipeline: Any, task_id: int, text: str) -> None:
        fence, offset = self._offsets[task_id]
        if offset == 0:
            pipeline.delete(text_key(task_id))
        pipeline.append(text_key(task_id), text)
        pipeline.expire(text_key(task_id), _TEXT_TTL)
        pipeline.publish(live_channel(task_id), orjson.dumps({"type": "text", "offset": offset, "text": text}))
        self._offsets[task_id] = (fence, offset + len(text))
