"""From a checked request to a committed and announced task."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from jobs.errors import IdempotencyMismatch
from jobs.handlers.registry import TaskType
from jobs.priority import DEFAULT_PRIORITY, queue_for
from jobs.queues import Doorbell, Due, RedisError
from jobs.settings import Settings
from jobs.store.database import Database, Json, Row, Session

log = structlog.get_logger(__name__)


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
    """The row of the task or batch, and whether an earlier request made it."""

    row: Row
    replayed: bool = False


class Submitter:
    """Commits tasks, then announces them."""

    def __init__(
        self, settings: Settings, types: Mapping[str, TaskType], database: Database, doorbell: Doorbell
    ) -> None:
        self._settings = settings
        self._types = types
        self._database = database
        self._doorbell = doorbell

    def task(
        self,
        wanted: Mapping[str, Any],
        *,
        request_id: str | None = None,
        idempotency: Idempotency | None = None,
    ) -> Submitted:
        """Submit one task.

        Args:
            wanted: `task_type`, `prompt`, `model`, `input`, and optionally `priority`, `max_retries`,
                `timeout_seconds`, `retry`, `run_at`, `delay_seconds`, `metadata`; all checked.

        Raises:
            IdempotencyMismatch: the key was used with another request.
            Unavailable: nothing was stored.
        """
        with self._database.transaction() as session:
            if earlier := _earlier(session, idempotency):
                row = session.one("get_task", {"id": earlier["task_id"]})
                return Submitted(row or {}, replayed=True)
            (row,) = self.insert(session, [wanted], request_id=request_id)
            _remember(session, idempotency, task_id=row["id"], batch_id=None)
        self.announce([row])
        return Submitted(row)

    def batch(
        self,
        wanted: Sequence[Mapping[str, Any]],
        *,
        request_id: str | None = None,
        idempotency: Idempotency | None = None,
    ) -> Submitted:
        """Submit tasks together, all or none; the same errors as `task`."""
        with self._database.transaction() as session:
            if earlier := _earlier(session, idempotency):
                row = session.one("get_batch", {"id": earlier["batch_id"]})
                return Submitted(row or {}, replayed=True)
            batch = session.one("insert_batch", {"total": len(wanted)})
            assert batch  # noqa: S101 - an INSERT ... RETURNING returns its row
            tasks = self.insert(session, wanted, batch_id=batch["id"], request_id=request_id)
            _remember(session, idempotency, task_id=None, batch_id=batch["id"])
        self.announce(tasks)
        return Submitted(batch)

    def insert(
        self,
        session: Session,
        wanted: Sequence[Mapping[str, Any]],
        *,
        batch_id: int | None = None,
        request_id: str | None = None,
    ) -> list[Row]:
        """Tasks as a part of a transaction, in order; to be announced once it is committed.

        One whose `unique_key` an unfinished task has already is left out.
        """
        documents = [self._document(task) for task in wanted]
        return session.all(
            "insert_tasks", {"documents": Json(documents), "batch_id": batch_id, "request_id": request_id}
        )

    def _document(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        kind = self._types[wanted["task_type"]]
        priority = wanted.get("priority", DEFAULT_PRIORITY)
        given = wanted.get("input") or {}
        return {
            "task_type": kind.name,
            "prompt": wanted.get("prompt"),
            "model": wanted.get("model") or self._settings.default_model,
            "input": given,
            "metadata": wanted.get("metadata") or {},
            "priority": priority,
            "queue": queue_for(priority),
            "max_retries": _first(wanted.get("max_retries"), kind.max_retries, self._settings.task_max_retries),
            "timeout_seconds": _first(
                wanted.get("timeout_seconds"), kind.timeout_seconds, self._settings.task_default_timeout
            ),
            "retry": wanted.get("retry") or kind.retry.as_json(),
            "account_id": given.get("account_id"),
            **{
                name: wanted.get(name)
                for name in ("run_at", "delay_seconds", "schedule_id", "execution_id", "parent_task_id", "unique_key")
            },
        }

    def announce(self, tasks: Sequence[Row]) -> None:
        """Ring for committed tasks; when Redis is away, the reconciler does it later."""
        try:
            self._doorbell.announce(task for task in tasks if task["announced_at"])
            self._doorbell.announce_later(
                Due(task["id"], task["queue"], task["due_at"]) for task in tasks if not task["announced_at"]
            )
        except RedisError as error:
            log.warning("not announced yet", tasks=len(tasks), reason=str(error))


def _first(*values: int | None) -> int:
    """The first that is given; 0 is a value."""
    return next(value for value in values if value is not None)


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
