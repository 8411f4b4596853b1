"""Tasks and batches as others see them: in answers of the API and in callbacks. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from jobs.lifecycle import TERMINAL, Status

TASK_KEYS: Final = (
    "id", "prompt", "model", "status", "priority", "created_at", "updated_at", "task_type", "queue", "input", "result",
    "error", "progress", "attempt", "max_retries", "timeout_seconds", "retry", "run_at", "started_at", "completed_at",
    "usage", "batch_id", "account_id", "execution_id", "parent_task_id", "depends_on", "unique_key", "callback_url",
    "stream", "profile", "progress_message", "waited_seconds", "run_seconds", "metadata", "cancel_requested",
)  # fmt: skip
"""In the order of the contract."""


def shown_url(url: str | None) -> str | None:
    """A callback's address without its query, where receivers like to have a token: whoever may look can see it."""
    head, mark, _ = (url or "").partition("?")
    return f"{head}?..." if mark else url


def shown_task(row: Mapping[str, Any]) -> dict[str, Any]:
    """A task's row as it is shown."""
    facts = {
        **row,
        "cancel_requested": row["status"] == Status.PROCESSING and bool(row["cancel_requested_at"]),
        "callback_url": shown_url(row["callback_url"]),
    }
    return {name: facts[name] for name in TASK_KEYS}


def shown_batch(
    batch: Mapping[str, Any], states: Sequence[Mapping[str, Any]], errors: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """A batch with its counts.

    Args:
        states: `status`, `count` and `last_end` for each state that its tasks are in.
        errors: `task_id` and `error`, at most 100.
    """
    ended = [state for state in states if state["status"] in TERMINAL]
    done = sum(state["count"] for state in ended)
    finished = done >= batch["total"]
    return {
        "id": batch["id"],
        "status": "CANCELLED" if batch["cancelled_at"] else "COMPLETED" if finished else "PROCESSING",
        "total": batch["total"],
        "counts": {state["status"]: state["count"] for state in states},
        "progress": 100 * done // batch["total"] if batch["total"] else 100,
        "errors": errors,
        "callback_url": shown_url(batch["callback_url"]),
        "created_at": batch["created_at"],
        "completed_at": max((state["last_end"] for state in ended), default=batch["completed_at"])
        if finished
        else None,
    }
