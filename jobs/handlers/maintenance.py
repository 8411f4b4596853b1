"""`database_backup` and `cleanup`: what keeps an installation healthy."""

import asyncio
from typing import Any

from marshmallow import Schema, validate

from jobs import backup
from jobs.errors import AttemptError, TaskError
from jobs.fields import StrictInteger
from jobs.handlers.context import Context
from jobs.handlers.registry import task_type

_FORGET = {
    "tasks": "forget_tasks",
    "executions": "forget_executions",
    "batches": "forget_batches",
    "callbacks": "forget_callbacks",
    "alerts": "forget_alerts",
}
_AT_ONCE = 500  # rows removed in one transaction: locks stay short


class BackupInput(Schema):
    """Input of `database_backup`."""

    keep_days = StrictInteger(validate=validate.Range(1, 36_500))


class CleanupInput(Schema):
    """Input of `cleanup`."""

    retention_days = StrictInteger(validate=validate.Range(1, 36_500))


@task_type("database_backup", input_schema=BackupInput, timeout_seconds=3600, max_retries=1, mode="process")
def database_backup(context: Context) -> dict[str, Any]:
    """Dump the database and remove old dumps; the result names the file and its bytes."""
    settings = context.settings
    (server,) = context.database.all("server_version")
    try:
        made = asyncio.run(backup.dump(settings.database_url, settings.backup_dir, server["number"] // 10_000))
        removed = backup.remove_old(settings.backup_dir, context.input.get("keep_days", settings.backup_keep_days))
    except backup.BackupError as error:
        raise AttemptError(TaskError("backup_failed", str(error))) from error
    except OSError as error:
        raise AttemptError(TaskError("backup_failed", f"{error.strerror}: {error.filename}")) from error
    return {"file": made.name, "bytes": made.stat().st_size, "removed": [path.name for path in removed]}


@task_type("cleanup", input_schema=CleanupInput, timeout_seconds=3600, mode="thread")
def cleanup(context: Context) -> dict[str, Any]:
    """Remove what is past its retention: ended tasks, their events, executions, batches, callbacks, alerts, dumps."""
    settings = context.settings
    days = context.input.get("retention_days", settings.task_retention_days)
    removed = {}
    for kind, statement in _FORGET.items():
        removed[kind] = 0
        while rows := context.database.all(statement, {"days": days, "limit": _AT_ONCE}):
            removed[kind] += len(rows)
            context.check()
    files = backup.remove_old(settings.backup_dir, settings.backup_keep_days)
    return {"retention_days": days, "removed": {**removed, "files": len(files)}}
