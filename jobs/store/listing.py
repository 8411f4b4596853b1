"""Lists: filters, orders, pages and totals, composed from fixed pieces of SQL."""

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, LiteralString

import orjson

from jobs.store.database import Database, Row, Session
from jobs.store.parts import Parts

EXACT_TOTAL: Final = 10_000
"""Totals up to this are exact; beyond it they are the planner's estimate (of the last ANALYZE), for counting a million
rows at each page would cost more than the page."""


class BadCursor(ValueError):
    """The cursor was not made by us, or belongs to another order."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list.

    Attributes:
        total: how many match the filters; exact up to `EXACT_TOTAL`.
        next_cursor: where the next page begins; None on the last one.
    """

    rows: list[Row]
    total: int
    total_is_exact: bool
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Listing:
    """What a table's list offers.

    Attributes:
        filters: query name -> condition on the parameter of that name.
        columns: what it may be sorted by; `id` always breaks ties.
        parts: of a table that grows large.
    """

    table: LiteralString
    filters: dict[str, LiteralString]
    columns: dict[str, LiteralString]
    parts: Parts | None = None

    @property
    def sorts(self) -> list[str]:
        """All values of `sort`; a minus sign means descending."""
        return [f"{sign}{column}" for column in self.columns for sign in ("", "-")]

    def page(
        self,
        database: Database,
        filters: Mapping[str, Any],
        *,
        sort: str | None,
        skip: int,
        limit: int,
        cursor: str | None,
    ) -> Page:
        """One page; in the order that suits the filters where none is given: newest first.

        Raises:
            BadCursor: see there.
        """
        sort = sort or ("-created_at" if {"created_after", "created_before"} & filters.keys() else "-id")
        parameters: dict[str, Any] = {**filters, "skip": skip, "limit": limit + 1, "depth": skip + limit + 1}
        beyond: list[LiteralString] = []
        if cursor:
            value, last_id = _read_cursor(cursor, sort)
            parameters |= {"value": value, "last_id": last_id}
            comparison: LiteralString = "<" if sort.startswith("-") else ">"
            beyond = [f"({self.columns[sort.removeprefix('-')]}, id) {comparison} (%(value)s, %(last_id)s)"]
        with database.transaction() as session:
            rows = session.run(self._rows(filters, sort, beyond), parameters)
            total, exact = self._total(session, filters)
        more = len(rows) > limit
        rows = rows[:limit]
        return Page(rows, total, exact, _make_cursor(sort, rows[-1]) if more else None)

    def _rows(self, filters: Mapping[str, Any], sort: str, beyond: list[LiteralString]) -> LiteralString:
        column, direction = self.columns[sort.removeprefix("-")], _direction(sort)
        order: LiteralString = (
            f"ORDER BY {column} {direction}, id {direction}" if column != "id" else f"ORDER BY id {direction}"
        )
        span: LiteralString = f"{order} OFFSET %(skip)s LIMIT %(limit)s"
        if self.parts and self.parts.serve(filters) and (filters or column != "id"):
            keys: LiteralString = f"{column}, id" if column != "id" else "id"
            found = self._found(self.parts, filters, keys, beyond, f"{order} LIMIT %(depth)s")
            return f"SELECT * FROM {self.table} JOIN (SELECT id FROM {found} {span}) AS page USING (id) {order}"  # noqa: S608
        return f"SELECT * FROM {self.table} {_where([*self._conditions(filters), *beyond])} {span}"  # noqa: S608

    def _total(self, session: Session, filters: Mapping[str, Any]) -> tuple[int, bool]:
        matching: LiteralString = f"{self.table} {_where(self._conditions(filters))}"
        counted, most = matching, {**filters, "most": EXACT_TOTAL + 1}
        if self.parts and filters and self.parts.serve(filters):
            counted = self._found(self.parts, filters, "", [], "LIMIT %(most)s")
        total = int(
            session.run(
                f"SELECT count(*) AS total FROM (SELECT FROM {counted} LIMIT %(most)s) AS counted",  # noqa: S608
                most,
            )[0]["total"]
        )
        if total <= EXACT_TOTAL:
            return total, True
        plan = session.run(f"EXPLAIN (FORMAT JSON) SELECT FROM {matching}", filters)
        return max(total, int(plan[0]["QUERY PLAN"][0]["Plan"]["Plan Rows"])), False

    def _conditions(self, filters: Iterable[str]) -> list[LiteralString]:
        return [self.filters[name] for name in filters]

    def _found(
        self,
        parts: Parts,
        filters: Iterable[str],
        select: LiteralString,
        beyond: list[LiteralString],
        rest: LiteralString,
    ) -> LiteralString:
        within = self._conditions(name for name in filters if name in parts.within)
        return parts.found(select, filters, [*within, *beyond], rest)


_BY_ID_AND_TIME: Final[dict[str, LiteralString]] = {"id": "id", "created_at": "created_at"}

TASKS: Final = Listing(
    "tasks",
    {
        "status": "status = ANY (%(status)s)",
        "priority": "priority = %(priority)s",
        "task_type": "task_type = %(task_type)s",
        "queue": "queue = %(queue)s",
        "batch_id": "batch_id = %(batch_id)s",
        "account_id": "account_id = %(account_id)s",
        "created_after": "created_at >= %(created_after)s",
        "created_before": "created_at < %(created_before)s",
    },
    {**_BY_ID_AND_TIME, "priority": "priority"},
    Parts(
        "tasks",
        ("status", "task_type", "priority"),
        {
            "status": "status = ANY (%(status)s)",
            "priority": "priority = %(priority)s",
            "task_type": "task_type = %(task_type)s",
            # As jobs/priority.py has it.
            "queue": "CASE WHEN priority >= 8 THEN 'high' WHEN priority >= 4 THEN 'default' ELSE 'low' END = %(queue)s",
        },
        frozenset({"created_after", "created_before"}),
    ),
)
ACCOUNTS: Final = Listing("accounts", {}, {"id": "id"})
CONTENTS: Final = Listing(
    "contents",
    {
        "account_id": "account_id = %(account_id)s",
        "review_status": "review_status = %(review_status)s",
        "task_id": "task_id = %(task_id)s",
        "category": "category = %(category)s",
    },
    {"id": "id"},
)
MEMORIES: Final = Listing("memories", {"topic": "topic = %(topic)s"}, {"id": "id"})
SCHEDULES: Final = Listing(
    "schedules", {"is_active": "is_active = %(is_active)s", "task_type": "task_type = %(task_type)s"}, {"id": "id"}
)
EXECUTIONS: Final = Listing(
    "executions",
    {
        "schedule_id": "schedule_id = %(schedule_id)s",
        "status": "status = %(status)s",
        "trigger": "trigger = %(trigger)s",
        "scheduled_after": "scheduled_for >= %(scheduled_after)s",
        "scheduled_before": "scheduled_for < %(scheduled_before)s",
    },
    {"id": "id", "scheduled_for": "scheduled_for"},
)
CALLBACKS: Final = Listing(
    "callbacks",
    {
        "task_id": "task_id = %(task_id)s",
        "batch_id": "batch_id = %(batch_id)s",
        "status": "status = %(status)s",
    },
    {"id": "id"},
)
AUDIT: Final = Listing(
    "audit",
    {
        "who": "who = %(who)s",
        "action": "action = %(action)s",
        "outcome": "outcome = %(outcome)s",
        "created_after": "created_at >= %(created_after)s",
        "created_before": "created_at < %(created_before)s",
    },
    _BY_ID_AND_TIME,
)
ALERTS: Final = Listing("alerts", {"status": "status = %(status)s", "rule": "rule = %(rule)s"}, {"id": "id"})


def _where(conditions: list[LiteralString]) -> LiteralString:
    if not conditions:
        return ""
    joined: LiteralString = " AND ".join(conditions)
    return f"WHERE {joined}"


def _direction(sort: str) -> LiteralString:
    return "DESC" if sort.startswith("-") else "ASC"


def _make_cursor(sort: str, row: Row) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([sort, row[sort.removeprefix("-")], row["id"]])).decode().rstrip("=")


def _read_cursor(cursor: str, sort: str) -> tuple[Any, int]:
    try:
        made_for, value, last_id = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if made_for != sort or type(last_id) is not int:
            raise BadCursor
        if sort.removeprefix("-") in ("created_at", "scheduled_for"):
            return datetime.fromisoformat(value), last_id
        if type(value) is not int:
            raise BadCursor
        return value, last_id
    except (ValueError, TypeError, OverflowError, binascii.Error) as error:
        raise BadCursor("Not a cursor of this list and order.") from error
