"""The list of tasks: filters, orders, pages and totals, composed from fixed pieces of SQL."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, LiteralString

import orjson

from jobs.store.database import Database, Row, Session

EXACT_TOTAL: Final = 10_000
"""Totals up to this are exact; beyond it they are the planner's estimate, for counting a million rows
at each page would cost more than the page."""

_FILTERS: Final[dict[str, LiteralString]] = {
    "status": "status = ANY (%(status)s)",
    "priority": "priority = %(priority)s",
    "task_type": "task_type = %(task_type)s",
    "queue": "queue = %(queue)s",
    "batch_id": "batch_id = %(batch_id)s",
    "account_id": "account_id = %(account_id)s",
    "created_after": "created_at >= %(created_after)s",
    "created_before": "created_at < %(created_before)s",
}
_COLUMNS: Final[dict[str, LiteralString]] = {"id": "id", "created_at": "created_at", "priority": "priority"}
SORTS: Final = tuple(f"{sign}{column}" for column in _COLUMNS for sign in ("", "-"))


class BadCursor(ValueError):
    """The cursor was not made by us, or belongs to another order."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of tasks.

    Attributes:
        total: how many match the filters; exact up to `EXACT_TOTAL`.
        next_cursor: where the next page begins; None on the last one.
    """

    rows: list[Row]
    total: int
    total_is_exact: bool
    next_cursor: str | None


def tasks(
    database: Database, filters: Mapping[str, Any], *, sort: str, skip: int, limit: int, cursor: str | None
) -> Page:
    """One page, newest first unless `sort` says otherwise.

    Raises:
        BadCursor: see there.
    """
    column, direction = _COLUMNS[sort.removeprefix("-")], _direction(sort)
    conditions: list[LiteralString] = [_FILTERS[name] for name in filters]
    parameters: dict[str, Any] = {**filters, "skip": skip, "limit": limit + 1}
    where = _where(conditions)
    if cursor:
        value, last_id = _read_cursor(cursor, sort)
        parameters |= {"value": value, "last_id": last_id}
        comparison: LiteralString = "<" if direction == "DESC" else ">"
        conditions = [*conditions, f"({column}, id) {comparison} (%(value)s, %(last_id)s)"]
    order: LiteralString = f"{column} {direction}, id {direction}" if column != "id" else f"id {direction}"
    with database.transaction() as session:
        rows = session.run(
            f"SELECT * FROM tasks {_where(conditions)} ORDER BY {order} OFFSET %(skip)s LIMIT %(limit)s",  # noqa: S608
            parameters,
        )
        total, exact = _total(session, where, parameters)
    more = len(rows) > limit
    rows = rows[:limit]
    return Page(rows, total, exact, _make_cursor(sort, rows[-1]) if more else None)


def _where(conditions: list[LiteralString]) -> LiteralString:
    if not conditions:
        return ""
    joined: LiteralString = " AND ".join(conditions)
    return f"WHERE {joined}"


def _direction(sort: str) -> LiteralString:
    return "DESC" if sort.startswith("-") else "ASC"


def _total(session: Session, where: LiteralString, parameters: Mapping[str, Any]) -> tuple[int, bool]:
    counted = session.run(
        f"SELECT count(*) AS total FROM (SELECT FROM tasks {where} LIMIT {EXACT_TOTAL + 1}) AS counted",  # noqa: S608
        parameters,
    )
    total = int(counted[0]["total"])
    if total <= EXACT_TOTAL:
        return total, True
    plan = session.run(f"EXPLAIN (FORMAT JSON) SELECT FROM tasks {where}", parameters)
    return max(total, int(plan[0]["QUERY PLAN"][0]["Plan"]["Plan Rows"])), False


def _make_cursor(sort: str, row: Row) -> str:
    return (
        base64.urlsafe_b64encode(orjson.dumps([sort, row[sort.removeprefix("-")], row["id"]])).decode().rstrip("=")
    )


def _read_cursor(cursor: str, sort: str) -> tuple[Any, int]:
    try:
        made_for, value, last_id = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if made_for != sort or not isinstance(last_id, int):
            raise BadCursor
        if sort.removeprefix("-") == "created_at":
            return datetime.fromisoformat(value), last_id
        return int(value), last_id
    except (ValueError, TypeError, binascii.Error) as error:
        raise BadCursor("Not a cursor of this list and order.") from error
