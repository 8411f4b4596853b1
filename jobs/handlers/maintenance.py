"""`database_backup` and `cleanup`: what keeps an installation healthy."""

import asyncio
from typing import Any

from marshmallow import Schema, validate

from jobs import backup
from jobs.errors import AttemptError, TaskError
from jobs.fields import StrictInteger
from jobs.handlers.context import Context
from jobs.handlers.registry import own_retention, task_type
from jobs.statistics import KEEP_DAYS

_FORGET = {
    "executions": "forget_executions",
    "batches": "forget_batches",
    "callbacks": "forget_callbacks",
    "alerts": "forget_alerts",
    "audit": "forget_audit",
    "sessions": "forget_sessions",
}
_AT_ONCE = 500  # rows removed in one transaction: locks stay short


class BackupInput(Schema):
    """Input of `database_backup`."""

    keep_days = StrictInteger(validate=validate.Range(1, 36_500))


class CleanupInput(Schema):
    """Input of `cleanup`."""

    retention_days = StrictInteger(
        validate=validate.Range(1, 36_500),
        metadata={"description": "In place of TASK_RETENTION_DAYS; task types with days of their own keep these."},
    )


@task_type(
    "database_backup", input_schema=BackupInput, timeout_seconds=3600, max_retries=1, mode="process", scope="admin"
)
def database_backup(context: Context) -> dict[str, Any]:
    """Dump the database and remove old dumps; the result names the file and its bytes."""
    settings = context.settings
    (server,) = context.database.all("server_version")
    try:
        made = asyncio.run(backup.dump(settings.direct_url, settings.backup_dir, server["number"] // 10_000))
        removed = backup.remove_old(settings.backup_dir, context.input.get("keep_days", settings.backup_keep_days))
    except backup.BackupError as error:
        raise AttemptError(TaskError("backup_failed", str(error), retryable=error.was_ended)) from error
    except OSError as error:
        raise AttemptError(TaskError("backup_failed", f"{error.strerror}: {error.filename}")) from error
    return {"file": made.name, "bytes": made.stat().st_size, "removed": [path.name for path in removed]}


@task_type("cleanup", input_schema=CleanupInput, timeout_seconds=3600, mode="thread", scope="admin")
def cleanup(context: Context) -> dict[str, Any]:
    """Remove what is past its retention: ended tasks with their events, executions... numbers, and old dumps."""
    settings = context.settings
    days = context.input.get("retention_days", settings.task_retention_days)
    own = own_retention()
    removed = {"tasks": _forget_tasks(context, days, list(own), others=True)}
    for name, own_days in own.items():
        removed["tasks"] += _forget_tasks(context, own_days, [name])
    for kind, statement in _FORGET.items():
        removed[kind] = 0
        # What administrators did stays as long as the settings say, whatever whoever submits a clean-up wants.
        kept = settings.task_retention_days if kind == "audit" else days
        while rows := context.database.all(statement, {"days": kept, "limit": _AT_ONCE}):
            removed[kind] += len(rows)
            context.check()
    context.database.all("forget_statistics", {"days": KEEP_DAYS})
    files = backup.remove_old(settings.backup_dir, settings.backup_keep_days)
    return {"retention_days": days, "removed": {**removed, "files": len(files)}}


def _forget_tasks(context: Context, days: int, types: list[str], *, others: bool = False) -> int:
    """Remove the old tasks of these types, or of all others; returns how many."""
    wanted = {"days": days, "types": types, "others": others, "limit": _AT_ONCE}
    count = 0
    while rows := context.database.all("forget_tasks", wanted):
        count += len(rows)
        context.check()
    return count
