"""From a checked request to a committed and announced task."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import structlog

from jobs import hooks
from jobs.documents import document
from jobs.errors import IdempotencyMismatch, Unavailable, UnknownParents
from jobs.followups import Followups
from jobs.handlers.registry import TaskType
from jobs.lifecycle import Status
from jobs.queues import Doorbell, Due, RedisError
from jobs.room import Room
from jobs.settings import Settings
from jobs.store.database import Database, Json, Row, Session
from jobs.together import Together

log = structlog.get_logger(__name__)

_KEY_RACES = 10  # times that the holder of a unique_key may end just while we look
_ALONE = ("unique_key", "depends_on", "cache_ttl")  # what has a task look at others: it gets its own transaction
_MOST_TOGETHER = 100


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A caller's Idempotency-Key with the fingerprint of what was asked."""

    key: str
    request_hash: bytes

    @classmethod
    def of(cls, key: str, scope: str, body: Any) -> "Idempotency":
        """Of a request: `scope` tells endpoints apart, `body` is the JSON document."""
        canonical = orjson.dumps([scope, body], option=orjson.OPT_SORT_KEYS)
        return cls(key, hashlib.sha256(canonical).digest())


@dataclass(frozen=True, slots=True)
class Submitted:
    """The row of the task or batch; whether an earlier request made it; whether its unique_key was there already."""

    row: Row
    replayed: bool = False
    existing: bool = False


class Submitter:
    """Commits tasks, then announces them."""

    def __init__(
        self, settings: Settings, types: Mapping[str, TaskType], database: Database, doorbell: Doorbell
    ) -> None:
        self._settings = settings
        self._types = types
        self._database = database
        self._doorbell = doorbell
        self.followups = Followups(database, doorbell)
        self.room = Room(settings.max_pending)
        self._together = Together(self._simple, most=_MOST_TOGETHER, shared=Unavailable)

    def task(
        self,
        wanted: Mapping[str, Any],
        *,
        caller: str = "",
        request_id: str | None = None,
        idempotency: Idempotency | None = None,
    ) -> Submitted:
        """Submit one task.

        Args:
            wanted: `task_type`, `prompt`, `model`, `input`, and optionally `priority`, `max_retries`,
                `timeout_seconds`, `retry`, `run_at`, `delay_seconds`, `depends_on`, `unique_key`, `cache_ttl`,
                `callback_url`, `stream`, `profile`, `metadata`; all checked.
            caller: name of the API key that asks.

        Raises:
            IdempotencyMismatch: the key was used with another request.
            UnknownParents: it depends on tasks that do not exist.
            TooManyPending: there is no room now.
            Unavailable: nothing was stored.
        """
        if not (idempotency or any(wanted.get(name) for name in _ALONE)):
            self.room.take(self._database, 1)
            return Submitted(self._together(self._document(wanted, caller, request_id)))
        with self._database.transaction() as session:
            if earlier := _earlier(session, idempotency):
                row = session.one("get_task", {"id": earlier["task_id"]})
                return Submitted(row or {}, replayed=True)
            self.room.take(session, 1)
            row, existing = self._one(session, wanted, caller, request_id)
            _remember(session, idempotency, task_id=row["id"], batch_id=None)
        if not existing:
            self.announce([row])
        return Submitted(row, existing=existing)

    def _simple(self, documents: Sequence[dict[str, Any]]) -> list[Row]:
        """Tasks that have nothing to do with each other, submitted at the same time: one statement, one commit."""
        rows = self._database.all(
            "insert_tasks", {"documents": Json(documents), "batch_id": None}, then="inserted_tasks"
        )
        self.announce(rows)
        return rows

    def _document(self, wanted: Mapping[str, Any], caller: str, request_id: str | None) -> dict[str, Any]:
        made = document(wanted, self._types[wanted["task_type"]], self._settings, caller)
        return {**made, "request_id": request_id}

    def _one(
        self, session: Session, wanted: Mapping[str, Any], caller: str, request_id: str | None
    ) -> tuple[Row, bool]:
        """The new task, or the unfinished one that has its unique_key."""
        for _ in range(_KEY_RACES):
            if created := self.insert(session, [wanted], caller=caller, request_id=request_id):
                return created[0], False
            if found := session.one("unfinished_with_key", {"unique_key": wanted["unique_key"]}):
                return found, True
        raise RuntimeError("unique_key: its holders end faster than they can be read")

    def batch(
        self,
        wanted: Sequence[Mapping[str, Any]],
        *,
        callback_url: str | None = None,
        caller: str = "",
        request_id: str | None = None,
        idempotency: Idempotency | None = None,
    ) -> Submitted:
        """Submit tasks together, all or none; the same errors as `task`.

        Those whose `unique_key` an unfinished task has already are left out.
        """
        with self._database.transaction() as session:
            if earlier := _earlier(session, idempotency):
                row = session.one("get_batch", {"id": earlier["batch_id"]})
                return Submitted(row or {}, replayed=True)
            self.room.take(session, len(wanted))
            batch = session.one("insert_batch", {"total": len(wanted), "callback_url": callback_url})
            assert batch  # noqa: S101 - an INSERT ... RETURNING returns its row
            tasks = self.insert(session, wanted, batch_id=batch["id"], caller=caller, request_id=request_id)
            if len(tasks) < len(wanted):
                batch = session.one("shrink_batch", {"id": batch["id"], "total": len(tasks)}) or batch
            _remember(session, idempotency, task_id=None, batch_id=batch["id"])
        self.announce(tasks)
        if not any(task["status"] == Status.PENDING for task in tasks):
            with _left_to_the_reconciler():
                self.followups.close([batch["id"]])
        return Submitted(batch)

    def insert(
        self,
        session: Session,
        wanted: Sequence[Mapping[str, Any]],
        *,
        batch_id: int | None = None,
        caller: str = "",
        request_id: str | None = None,
    ) -> list[Row]:
        """Tasks as a part of a transaction, in order; to be announced once it is committed.

        Of a batch's, the rows have only what is needed for that. One whose `unique_key` an unfinished task has
        already is left out.

        Raises:
            UnknownParents: as `task`.
        """
        documents = [self._document(task, caller, request_id) for task in wanted]
        _use_cached(session, documents)
        created = session.all(
            "insert_tasks",
            {"documents": Json(documents), "batch_id": batch_id},
            then="inserted_tasks_in_brief" if batch_id else "inserted_tasks",
        )
        children = [row for row in created if row["depends_on"]]
        if children:
            _link(session, children)
        hooks.run(session, [row for row in created if row["status"] == Status.COMPLETED])
        return created

    def announce(self, tasks: Sequence[Row]) -> None:
        """Ring for committed tasks; when Redis is away, the reconciler does it later."""
        try:
            self._doorbell.announce(task for task in tasks if task["announced_at"])
            horizon = datetime.now(UTC) + timedelta(seconds=self._settings.clock_horizon)
            self._doorbell.announce_later(
                Due(task["id"], task["queue"], task["due_at"])
                for task in tasks
                if task["due_at"] and task["due_at"] <= horizon
            )
        except RedisError as error:
            log.warning("not announced yet", tasks=len(tasks), reason=str(error))
        if any(task["depends_on"] for task in tasks):
            with _left_to_the_reconciler():
                self.followups.release()  # of parents that had ended before


@contextmanager
def _left_to_the_reconciler() -> Iterator[None]:
    """What follows a commit must not fail the request: it was accepted."""
    try:
        yield
    except Unavailable as error:
        log.warning("left to the reconciler", reason=str(error))


def _use_cached(session: Session, documents: list[dict[str, Any]]) -> None:
    """Name for each document with a `cache_ttl` the task whose result it may have at once."""
    asked = [
        {**doc, "position": position}
        for position, doc in enumerate(documents)
        if doc.get("cache_ttl") and "depends_on" not in doc
    ]
    if asked:
        for found in session.all("find_cached", {"documents": Json(asked)}):
            documents[found["position"]]["cached_from"] = found["id"]


def _link(session: Session, children: Sequence[Row]) -> None:
    found = {row["id"] for row in session.all("link_parents", {"ids": [row["id"] for row in children]})}
    if unknown := {parent for row in children for parent in row["depends_on"]} - found:
        raise UnknownParents(unknown)


def _earlier(session: Session, idempotency: Idempotency | None) -> Row | None:
    """What an earlier request with this key made; None when this request is the first."""
    if idempotency is None:
        return None
    if session.one("claim_idempotency_key", {"key": idempotency.key, "request_hash": idempotency.request_hash}):
        return None
    known = session.one("get_idempotency_key", {"key": idempotency.key})
    if known is None or bytes(known["request_hash"]) != idempotency.request_hash:
        raise IdempotencyMismatch("This Idempotency-Key was used with another request.")
    return known


def _remember(session: Session, idempotency: Idempotency | None, *, task_id: int | None, batch_id: int | None) -> None:
    if idempotency:
        session.all("answer_idempotency_key", {"key": idempotency.key, "task_id": task_id, "batch_id": batch_id})
