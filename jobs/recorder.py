"""Writes outcomes to PostgreSQL, those of a few milliseconds in one statement."""

import asyncio
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from typing import Any, Final

import orjson
import structlog

from jobs import hooks
from jobs.answers import is_spent
from jobs.attempt import Outcome
from jobs.errors import TaskError, Unavailable
from jobs.ledger import Run
from jobs.lifecycle import TRANSITIONS, Status
from jobs.logs import about
from jobs.store.database import AsyncDatabase, AsyncSession, Refused, Row

log = structlog.get_logger(__name__)

GATHER_SECONDS: Final = 0.01
_MOST = 1000  # outcomes in one statement
_PAUSE_SECONDS = 0.5  # between tries while PostgreSQL is away
_TARGETS = sorted(TRANSITIONS[Status.PROCESSING])
_UNSTORABLE = (*Refused, orjson.JSONEncodeError)

Values = dict[str, Any]
"""One outcome as `record_outcomes` takes it; what is not there is null."""


class Recorder:
    """Collects outcomes and records them until each is stored or found to be another worker's affair."""

    def __init__(
        self,
        database: AsyncDatabase,
        worker: str,
        on_recorded: Callable[[list[Row]], None],
    ) -> None:
        self._database = database
        self._worker = worker
        self._on_recorded = on_recorded
        self._waiting: list[Outcome] = []
        self._arrived = asyncio.Event()
        self._draining = asyncio.Lock()

    def put(self, outcome: Outcome) -> None:
        """Have an outcome recorded soon."""
        self._waiting.append(outcome)
        self._arrived.set()

    def waiting(self) -> set[Run]:
        """The attempts whose outcomes are not recorded yet."""
        return {(outcome.claim.id, outcome.claim.fence) for outcome in self._waiting}

    async def run(self) -> None:
        """Record whatever arrives, for ever."""
        while True:
            await self._arrived.wait()
            await asyncio.sleep(GATHER_SECONDS)
            await self.drain()

    async def drain(self) -> None:
        """Record everything that waits; returns when it is stored, however long PostgreSQL is away."""
        # The loop and the end of the worker may come here at the same time.
        async with self._draining:
            while self._waiting:
                self._arrived.clear()
                batch = self._waiting[:_MOST]
                try:
                    await self._record(batch)
                except Unavailable as error:
                    log.warning("cannot record outcomes, trying again", waiting=len(self._waiting), reason=str(error))
                    await asyncio.sleep(_PAUSE_SECONDS)
                else:
                    del self._waiting[: len(batch)]

    async def hand_back(self, runs: Sequence[Run]) -> list[Row]:
        """Let go of claims that no attempt was made for; returns what was recorded."""
        let_go: list[Values] = [
            {"id": task_id, "fence": fence, "status": Status.PENDING, "free": True} for task_id, fence in runs
        ]
        return await self._store(let_go)

    async def _record(self, batch: list[Outcome]) -> None:
        try:
            rows = await self._store(list(map(_values, batch)), [outcome for outcome in batch if outcome.has_answers])
        except _UNSTORABLE as error:
            # A result that PostgreSQL cannot hold must not keep the others from being recorded.
            if len(batch) > 1:
                for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
                    await self._record(half)
                return
            claim = batch[0].claim
            with about(task_id=claim.id, request_id=claim.request_id):
                log.warning("result cannot be stored", reason=type(error).__name__)
                rows = await self._record_failure(batch[0])
        self._on_recorded(rows)

    async def _record_failure(self, outcome: Outcome) -> list[Row]:
        """Record that an outcome cannot be: with less and less of what may be the reason, so that this ends."""
        error = TaskError("handler_error", "The handler's result cannot be stored as JSON.")
        plain = Outcome(outcome.claim, Status.FAILED, error=error)
        with_usage = replace(plain, usage=outcome.usage, has_answers=outcome.has_answers)
        for failure, with_hooks in (with_usage, True), (plain, True), (plain, False):
            try:
                answered = [failure] if failure.has_answers else []
                return await self._store([_values(failure)], answered, with_hooks=with_hooks)
            except _UNSTORABLE as refusal:
                log.exception("failure cannot be stored", with_hooks=with_hooks, reason=type(refusal).__name__)
        return []

    async def _store(
        self, outcomes: Sequence[Values], answered: Sequence[Outcome] = (), *, with_hooks: bool = True
    ) -> list[Row]:
        async with self._database.transaction() as session:
            rows = await session.all("record_outcomes", _parameters(self._worker, outcomes))
            if with_hooks:
                await hooks.run_async(session, rows)
            if answered:
                await _settle_answers(session, answered, {row["id"] for row in rows})
            return rows


async def _settle_answers(session: AsyncSession, answered: Sequence[Outcome], recorded: Set[int]) -> None:
    """Of the models' answers behind outcomes that were recorded, keep those that another attempt may use."""
    ended = [outcome for outcome in answered if outcome.claim.id in recorded]
    spent = {outcome.claim.id for outcome in ended if is_spent(outcome.status, outcome.error)}
    for statement, ids in ("forget_answers", spent), ("count_answers", {outcome.claim.id for outcome in ended} - spent):
        if ids:
            await session.all(statement, {"ids": list(ids)})


def _values(outcome: Outcome) -> Values:
    return {
        "id": outcome.claim.id,
        "fence": outcome.claim.fence,
        "status": outcome.status,
        "result": outcome.result,
        "error": outcome.error.as_json() if outcome.error else None,
        "usage": outcome.usage,
        "delay": outcome.delay,
        "free": outcome.free,
        "measures": outcome.measures,
    }


def _parameters(worker: str, outcomes: Sequence[Values]) -> dict[str, Any]:
    # One document, as the driver takes longer for arrays of texts than for all else here.
    return {"worker": worker, "targets": _TARGETS, "outcomes": orjson.dumps(outcomes).decode()}
