"""`async_content_generation`: a batch of articles for a set of accounts."""

import itertools
from collections.abc import Iterator
from typing import Any, Final

import structlog
from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from jobs.fields import StrictBoolean, StrictInteger, Text
from jobs.priority import DEFAULT_PRIORITY, MAX_PRIORITY, MIN_PRIORITY
from jobs.store.database import Refused, Row
from scheduler.executors.registry import Firing, executor

log = structlog.get_logger(__name__)

CHUNK: Final = 100
MOST_TASKS: Final = 100_000
_SHORT = validate.Length(1, 500)


class Topic(Schema):
    """One topic to write about."""

    topic = Text(required=True, validate=_SHORT)
    keywords = fields.List(Text(validate=_SHORT), allow_none=True, validate=validate.Length(max=50))
    requirements = Text(allow_none=True, validate=validate.Length(max=10_000))
    tone = Text(allow_none=True, validate=_SHORT)


class ContentParams(Schema):
    """Parameters of `async_content_generation`."""

    account_ids = fields.List(
        StrictInteger(validate=validate.Range(1)), required=True, validate=validate.Length(1, 10_000)
    )
    count_per_account = StrictInteger(
        allow_none=True,
        validate=validate.Range(1, 1000),
        metadata={"description": "Required unless topics are given; with topics, they are taken in turn."},
    )
    category = Text(load_default=None, allow_none=True, validate=_SHORT)
    auto_approve = StrictBoolean(
        load_default=True,
    )
    priority = StrictInteger(load_default=DEFAULT_PRIORITY, validate=validate.Range(MIN_PRIORITY, MAX_PRIORITY))
    topics = fields.List(fields.Nested(Topic), allow_none=True, validate=validate.Length(max=1000))

    @validates_schema(skip_on_field_errors=True)
    def _how_many(self, data: dict[str, Any], **_: Any) -> None:
        if not data.get("count_per_account") and not data.get("topics"):
            raise ValidationError("Required unless topics are given.", "count_per_account")
        pieces = data.get("count_per_account") or len(data["topics"])
        if len(data["account_ids"]) * pieces > MOST_TASKS:
            raise ValidationError(f"More than {MOST_TASKS} tasks in one firing.", "account_ids")


@executor("async_content_generation", lambda _types: ContentParams())
def async_content_generation(firing: Firing) -> dict[str, Any]:
    """Submits one content_generation task for each piece; people review them unless auto_approve is set."""
    ids = list(dict.fromkeys(firing.params["account_ids"]))
    known = {row["id"]: row for row in firing.session.all("get_accounts", {"ids": ids})}
    stats: dict[str, dict[str, Any]] = {}
    tasks: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    pieces = list(_pieces(firing.params))
    for account_id in ids:
        account = known.get(account_id)
        made, problem = _for_account(firing, account, pieces) if account else ([], "There is no such account.")
        tasks += made
        if problem:
            errors.append({"account_id": account_id, "error": problem})
        stats[str(account_id)] = {
            "account_name": account["name"] if account else None,
            "success": len(made),
            "failed": len(pieces) - len(made),
            "total": len(pieces),
        }
    served = sum(stat["success"] > 0 for stat in stats.values())
    return {
        "success": bool(tasks),
        "message": f"Successfully submitted {len(tasks)} async tasks for {served} accounts",
        "data": {
            "total_submitted": len(tasks),
            "total_failed": sum(stat["failed"] for stat in stats.values()),
            "tasks": tasks,
            "errors": errors,
            "account_stats": stats,
        },
    }


def _pieces(params: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What each account gets: its topics in turn, or as many pieces without one."""
    topics = params.get("topics") or [{}]
    count = params.get("count_per_account") or len(topics)
    return itertools.islice(itertools.cycle(topics), count)


def _for_account(firing: Firing, account: Row, pieces: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str | None]:
    """Submit one account's tasks in chunks; a failure ends this account only."""
    params = firing.params
    made: list[dict[str, Any]] = []
    category = params["category"] or account["profile"].get("default_category")
    for start in range(0, len(pieces), CHUNK):
        chunk = pieces[start : start + CHUNK]
        wanted = [
            {
                "task_type": "content_generation",
                "priority": params["priority"],
                "input": {
                    "account_id": account["id"],
                    "auto_approve": params["auto_approve"],
                    **({"category": category} if category else {}),
                    **{name: value for name, value in piece.items() if value is not None},
                },
            }
            for piece in chunk
        ]
        try:
            rows = firing.submit(wanted)
        except Refused as error:
            log.warning("account skipped", account_id=account["id"], reason=type(error).__name__)
            return made, "Its tasks cannot be stored."
        made += [
            {
                "task_id": row["id"],
                "account_id": account["id"],
                "account_name": account["name"],
                "topic": piece.get("topic"),
                "category": category,
            }
            for row, piece in zip(rows, chunk, strict=True)
        ]
    return made, None
