"""Lists: filters, orders, pages and totals, composed from fixed pieces of SQL."""

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, LiteralString, NamedTuple

import orjson

from jobs.store.database import Database, Row, Session
from jobs.store.parts import Keys, Parts

EXACT_TOTAL: Final = 10_000
"""Totals up to this are exact; beyond it they are the planner's estimate (of the last ANALYZE), for counting a million
rows at each page would cost more than the page."""


LOOKED_THROUGH: Final = 5_000
"""Rows that a page of a search reads, at most: a million would take seconds, and no index finds pieces of words."""

_PART_OF_DEPTH = 16


class BadCursor(ValueError):
    """The cursor was not made by us, or belongs to another order."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list.

    Attributes:
        total: how many match the filters; exact up to `EXACT_TOTAL`. Of a search, how many do among the first
            `LOOKED_THROUGH` rows of the list, which is exact where it has no more.
        next_cursor: where the next page begins; None on the last one.
    """

    rows: list[Row]
    total: int
    total_is_exact: bool
    next_cursor: str | None


class Found(NamedTuple):
    """What a page is made of: its rows, perhaps one more; the row that the next page begins behind, if there is one."""

    rows: list[Row]
    last: Row | None
    total: int
    total_is_exact: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """What a table's list offers.

    Attributes:
        filters: query name -> condition on the parameter of that name.
        reading: the same, of filters that no index helps with.
        shown: what is read of a row, with what it may be sorted by; nothing given: all of it.
        columns: what it may be sorted by; `id` always breaks ties.
        parts: of a table that grows large; the first that serve are used.
    """

    table: LiteralString
    filters: dict[str, LiteralString]
    columns: dict[str, LiteralString]
    parts: tuple[Parts, ...] = ()
    reading: Mapping[str, LiteralString] = field(default_factory=dict)
    shown: LiteralString = ""

    @property
    def sorts(self) -> list[str]:
        """All values of `sort`; a minus sign means descending."""
        return [f"{sign}{column}" for column in self.columns for sign in ("", "-")]

    @property
    def _shown(self) -> LiteralString:
        return self.shown or f"{self.table}.*"

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
        keys = Keys(self.columns[sort.removeprefix("-")], sort.startswith("-"))
        parameters: dict[str, Any] = {**filters, "skip": skip, "limit": limit + 1, "window": LOOKED_THROUGH}
        beyond: list[LiteralString] = []
        if cursor:
            value, last_id = _read_cursor(cursor, sort)
            parameters |= {"value": value, "last_id": last_id}
            beyond = [keys.beyond("%(value)s", "%(last_id)s")]
        cheap = [name for name in filters if name not in self.reading]
        with database.transaction() as session:
            if len(cheap) < len(filters):
                found = self._search(session, parameters, cheap, keys, beyond)
            else:
                rows = session.run(self._rows(cheap, keys, beyond), _with_depth(parameters, skip + limit + 1))
                found = Found(rows, rows[limit - 1] if len(rows) > limit else None, *self._total(session, filters))
        next_cursor = _make_cursor(sort, found.last) if found.last else None
        return Page(found.rows[:limit], found.total, found.total_is_exact, next_cursor)

    def _search(
        self,
        session: Session,
        parameters: dict[str, Any],
        filters: list[str],
        keys: Keys,
        beyond: list[LiteralString],
    ) -> "Found":
        """What fits among the next `LOOKED_THROUGH` rows; the next page goes on behind them."""
        parameters = _with_depth(parameters, LOOKED_THROUGH)
        fits = _where(self.reading[name] for name in self.reading if name in parameters)
        table, window = self.table, f"{keys.order} LIMIT %(window)s"
        looked = self._keys(filters, keys, beyond, window)
        rows = session.run(
            f"SELECT {self._shown} FROM {table} JOIN ({looked}) AS looked USING (id) {fits}"  # noqa: S608
            f" {keys.order_in(table)} OFFSET %(skip)s LIMIT %(limit)s",
            parameters,
        )
        last_shown = rows[-2:-1]
        if len(rows) < parameters["limit"]:
            behind = f"{self._keys(filters, keys, beyond, keys.order)} OFFSET %(window)s - 1 LIMIT 1"
            last_shown = session.run(behind, parameters)
        looked = self._keys(filters, keys, [], window)
        (counted,) = session.run(
            f"SELECT count(*) AS looked, count(*) FILTER ({fits}) AS total"  # noqa: S608
            f" FROM {table} JOIN ({looked}) AS looked USING (id)",
            parameters,
        )
        last = last_shown[0] if last_shown else None
        return Found(rows, last, counted["total"], counted["looked"] < LOOKED_THROUGH)

    def _rows(self, filters: list[str], keys: Keys, beyond: list[LiteralString]) -> LiteralString:
        span: LiteralString = f"{keys.order} OFFSET %(skip)s LIMIT %(limit)s"
        if (self.parts and filters) or self._parts(filters, keys):
            page = self._keys(filters, keys, beyond, span)
            order = keys.order_in(self.table)
            return f"SELECT {self._shown} FROM {self.table} JOIN ({page}) AS page USING (id) {order}"  # noqa: S608
        return f"SELECT {self._shown} FROM {self.table} {_where([*self._conditions(filters), *beyond])} {span}"  # noqa: S608

    def _keys(self, filters: list[str], keys: Keys, beyond: list[LiteralString], span: LiteralString) -> LiteralString:
        """Of rows, what their order is made of."""
        if parts := self._parts(filters, keys):
            within = self._conditions(name for name in filters if name in parts.within)
            found = parts.first(keys, filters, [*within, *beyond])
            return f"SELECT {keys.names} FROM {found} {span}"  # noqa: S608
        return f"SELECT {keys.names} FROM {self.table} {_where([*self._conditions(filters), *beyond])} {span}"  # noqa: S608

    def _parts(self, filters: Iterable[str], keys: Keys | None = None) -> Parts | None:
        """Those that serve; without an order, to count. All rows are there, and in the order of their ids, anyway."""
        if not filters and (keys is None or keys.column == "id"):
            return None
        serving = (parts for parts in self.parts if parts.serve(filters))
        return next((parts for parts in serving if keys is None or keys.column in parts.orders), None)

    def _total(self, session: Session, filters: Mapping[str, Any]) -> tuple[int, bool]:
        matching: LiteralString = f"{self.table} {_where(self._conditions(filters))}"
        counted, most = matching, {**filters, "most": EXACT_TOTAL + 1}
        if parts := self._parts(filters):
            within = self._conditions(name for name in filters if name in parts.within)
            counted = parts.found("", filters, within, "LIMIT %(most)s")
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


_BY_ID_AND_TIME: Final[dict[str, LiteralString]] = {"id": "id", "created_at": "created_at"}

_PARTS_OF_TASKS: Final = Parts(
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
    frozenset({"id", "created_at", "priority"}),
)
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
    (
        _PARTS_OF_TASKS,
        replace(
            _PARTS_OF_TASKS,
            within=frozenset(),
            orders=frozenset({"id", "priority"}),
            fixed={"account_id": "account_id = %(account_id)s"},
        ),
    ),
    {"search": "strpos(lower(concat_ws(' ', prompt, input::text)), lower(%(search)s)) > 0"},
)
TASKS_IN_BRIEF: Final = replace(
    TASKS,
    shown="id, task_type, model, status, tasks.priority, queue, attempt, progress, progress_message, tasks.created_at,"
    " started_at, run_seconds, error ->> 'code' AS error_code, left(coalesce(prompt, input::text), 250) AS about",
)
"""The same for whoever looks through them: prompts, inputs and results may be long, and stay where they are."""
ACCOUNTS: Final = Listing("accounts", {}, {"id": "id"})
CONTENTS: Final = Listing(
    "contents",
    {
        "account_id": "account_id = %(account_id)s",
        "review_status": "review_status = %(review_status)s",
        "task_id": "task_id = %(task_id)s",
        # As the index has it, which takes no text of any length.
        "category": "left(category, 500) = left(%(category)s, 500)",
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


def _with_depth(parameters: Mapping[str, Any], depth: int) -> dict[str, Any]:
    return {**parameters, "depth": depth, "few": depth // _PART_OF_DEPTH + 1}


def _where(conditions: Iterable[LiteralString]) -> LiteralString:
    joined: LiteralString = " AND ".join(conditions)
    return f"WHERE {joined}" if joined else ""


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
