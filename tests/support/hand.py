"""A worker played by hand: claims tasks and records what they came to, as the real one does."""

import json
from collections.abc import Sequence
from typing import Any

from jobs import hooks
from jobs.errors import TaskError
from jobs.lifecycle import CLAIMABLE, TRANSITIONS, Status, sources
from jobs.store.database import Database, Row

_ERROR = TaskError("provider_error", "no", retryable=True)


def register(database: Database, name: str = "w") -> int:
    """A worker's id."""
    facts = {"kind": "worker", "name": name, "host": "h", "pid": 1, "queues": ["default"], "capacity": 9}
    return int(database.all("register_worker", facts)[0]["id"])


def claim(database: Database, worker_id: int, ids: Sequence[int]) -> list[Row]:
    """What could be claimed."""
    claimable = sources(Status.PROCESSING, CLAIMABLE)
    facts = {"ids": list(ids), "sources": claimable, "worker_id": worker_id, "worker": "w"}
    return database.all("claim_tasks", facts)


def record(
    database: Database,
    *outcomes: tuple[int, int, str],
    result: dict[str, Any] | None = None,
    error: TaskError = _ERROR,
    usage: dict[str, Any] | None = None,
    free: bool = False,
) -> list[Row]:
    """Record (id, fence, status), with the hooks in the same transaction; what was recorded.

    Completed tasks get `result`, or their fence to tell them apart.
    """
    documents = [
        {
            "id": task_id,
            "fence": fence,
            "status": status,
            "result": (result or {"fence": fence}) if status == "COMPLETED" else None,
            "error": error.as_json() if status in ("RETRYING", "FAILED") else None,
            "usage": usage,
            "delay": 600 if status == "RETRYING" else None,
            "free": free or status == "PENDING",
        }
        for task_id, fence, status in outcomes
    ]
    targets = sorted(TRANSITIONS[Status.PROCESSING])
    parameters = {"worker": "w", "targets": targets, "outcomes": json.dumps(documents)}
    with database.transaction() as session:
        moved = session.all("record_outcomes", parameters)
        hooks.run(session, moved)
    return moved


def finish(
    database: Database,
    *ids: int,
    status: str = "COMPLETED",
    result: dict[str, Any] | None = None,
    error: TaskError = _ERROR,
    usage: dict[str, Any] | None = None,
) -> list[Row]:
    """Claim tasks and record that they ended so; what was recorded."""
    claims = claim(database, register(database), ids)
    assert len(claims) == len(ids), "not all of them waited"
    ended = [(row["id"], row["fence"], status) for row in claims]
    return record(database, *ended, result=result, error=error, usage=usage)
