"""Models' answers, kept from when they come until their task is done: what was paid for is not asked for again.

For handlers that do more than pass an answer on. Another attempt at their task, after a crash or after a later call
failed, gets the answers to the requests it repeats; unless one of them was what it failed for.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Final, NamedTuple

import orjson
import structlog

from jobs.errors import TaskError, Unavailable
from jobs.lifecycle import Status
from jobs.providers.base import ChatAnswer, ChatRequest
from jobs.store.database import AsyncDatabase, Refused, Row

log = structlog.get_logger(__name__)

_GATHER_SECONDS: Final = 0.01
_PAUSE_SECONDS: Final = 0.5  # between tries while PostgreSQL is away
_BLAMED: Final = frozenset({"invalid_response", "handler_error"})
_COLUMNS: Final = ("ids", "fences", "requests", "turns", "answers")

Values = tuple[int, int, bytes, int, str]
"""An answer as `keep_answers` takes it."""


class Answered(NamedTuple):
    """A model's answer and the provider it came from.

    Attributes:
        model: as it was asked for; the provider may name it otherwise.
        is_new: it was asked for now.
        is_counted: its tokens are part of the task's usage already.
    """

    answer: ChatAnswer
    provider: str
    model: str
    is_new: bool
    is_counted: bool


class Keeper:
    """Stores one worker's answers, those of a few milliseconds in one statement."""

    def __init__(self, database: AsyncDatabase) -> None:
        self._database = database
        self._waiting: list[Values] = []
        self._gathering: asyncio.Task[None] | None = None
        self._storing: set[asyncio.Task[None]] = set()

    async def keep(self, values: Values) -> None:
        """Returns when it is stored, however long PostgreSQL is away; cancelled, it is stored all the same."""
        self._waiting.append(values)
        if self._gathering is None:
            self._gathering = asyncio.create_task(self._store())
            self._storing.add(self._gathering)
            self._gathering.add_done_callback(self._storing.discard)
        await asyncio.shield(self._gathering)

    async def drain(self) -> None:
        """Returns when everything is stored."""
        if self._storing:
            await asyncio.wait(self._storing)

    async def of(self, task_id: int) -> list[Row]:
        """A task's answers. Raises `Unavailable`."""
        return await self._database.all("kept_answers", {"id": task_id})

    async def _store(self) -> None:
        await asyncio.sleep(_GATHER_SECONDS)
        waiting, self._waiting, self._gathering = self._waiting, [], None
        columns = dict(zip(_COLUMNS, map(list, zip(*waiting, strict=True)), strict=True))
        while True:
            try:
                await self._database.all("keep_answers", columns)
            except Unavailable as error:
                log.warning("cannot keep answers, trying again", waiting=len(waiting), reason=str(error))
                await asyncio.sleep(_PAUSE_SECONDS)
            except Refused as error:
                log.warning("answers cannot be kept", answers=len(waiting), reason=type(error).__name__)
                return
            else:
                return


class Kept:
    """The answers of one attempt's task."""

    def __init__(self, keeper: Keeper, task_id: int, fence: int) -> None:
        self._keeper = keeper
        self._task_id = task_id
        self._fence = fence
        self._earlier: dict[tuple[bytes, int], Row] | None = None if fence > 1 else {}
        self._turns: Counter[bytes] = Counter()

    @property
    def is_empty(self) -> bool:
        """Whether this attempt has asked for nothing yet."""
        return not self._turns

    async def answer(self, request: ChatRequest, ask: Callable[[], Awaitable[tuple[ChatAnswer, str, str]]]) -> Answered:
        """What was answered to `request` in an earlier attempt, else what `ask` returns, which is stored first.

        Raises:
            Unavailable: it cannot be looked up now.
        """
        print_of = hashlib.sha256(orjson.dumps([request.model, request.messages, request.options])).digest()
        turn = self._turns[print_of]
        self._turns[print_of] += 1
        if self._earlier is None:
            rows = await self._keeper.of(self._task_id)
            self._earlier = {(row["request"], row["turn"]): row for row in rows}
        if found := self._earlier.get((print_of, turn)):
            kept = found["answer"]
            answer, provider, model = ChatAnswer(**kept["answer"]), kept["provider"], kept["model"]
            return Answered(answer, provider, model, is_new=False, is_counted=found["counted"])
        try:
            answer, provider, model = await ask()
        except BaseException:
            self._turns[print_of] -= 1  # another attempt need not fail before it asks again
            raise
        document = orjson.dumps({"answer": asdict(answer), "provider": provider, "model": model}).decode()
        await self._keeper.keep((self._task_id, self._fence, print_of, turn, document))
        return Answered(answer, provider, model, is_new=True, is_counted=True)


def is_spent(status: Status, error: TaskError | None) -> bool:
    """Whether the answers behind an outcome are of no more use: the task is done, or they may be what is wrong."""
    return status is Status.COMPLETED or (error is not None and error.code in _BLAMED)
