"""What a checked request for a task becomes in the database. Pure."""

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from jobs.handlers.registry import TaskType
from jobs.priority import DEFAULT_PRIORITY, queue_for
from jobs.settings import Settings

_AS_GIVEN = (
    "prompt",
    "run_at",
    "delay_seconds",
    "callback_url",
    "schedule_id",
    "execution_id",
    "parent_task_id",
    "unique_key",
    "cache_ttl",
)


def document(wanted: Mapping[str, Any], kind: TaskType, settings: Settings, caller: str) -> dict[str, Any]:
    """The row of a task, as `insert_tasks` takes it, with the defaults of its type and of the settings.

    What is absent, false or empty is left out: of ten thousand tasks, that is a third of what PostgreSQL has to read.

    Args:
        wanted: as `Submitter.task` takes it.
        caller: name of the API key that asks; owns the task where no account does.
    """
    given = wanted.get("input") or {}
    model = wanted.get("model") or (settings.embedding_model if kind.embeds else settings.default_model)
    priority = _first(wanted.get("priority"), kind.priority, DEFAULT_PRIORITY)
    account_id = given.get("account_id")
    made = {
        **{name: wanted[name] for name in _AS_GIVEN if name in wanted},
        "task_type": kind.name,
        "model": model,
        "input": given,
        "metadata": wanted.get("metadata"),
        "priority": priority,
        "queue": queue_for(priority),
        "pool": kind.pool(model),
        "owner": f"account:{account_id}" if account_id else f"key:{caller}" if caller else "",
        "max_retries": _first(wanted.get("max_retries"), kind.max_retries, settings.task_max_retries),
        "timeout_seconds": _first(wanted.get("timeout_seconds"), kind.timeout_seconds, settings.task_default_timeout),
        "retry": wanted.get("retry") or kind.retry.as_json(),
        "account_id": account_id,
        "depends_on": wanted.get("depends_on"),
        "stream": wanted.get("stream"),
        "profile": wanted.get("profile"),
        "input_hash": _hash(kind.name, model, wanted.get("prompt"), given),
    }
    return {name: value for name, value in made.items() if value or (value == 0 and value is not False)}


def _hash(*facts: Any) -> int:
    """64 bits that are equal for equal work; who relies on them compares the facts, too."""
    canonical = orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)
    return int.from_bytes(hashlib.blake2b(canonical, digest_size=8).digest(), signed=True)


def _first(*values: int | None) -> int:
    """The first that is given; 0 is a value."""
    for value in values:
        if value is not None:
            return value
    raise ValueError("none is given")
