"""Lists of a large table by its parts: rows that are equal in a few columns of few values.

No index has the rows of every combination of filters in every order. But where an index begins with such columns
(states, types, priorities), each combination of values that occurs in the table is a part, whose rows lie there in
order. A page then is the first of the first rows of every part that matches, and a total the sum of theirs. That takes
some milliseconds, however large the table is, and however few of its rows match.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, LiteralString


@dataclass(frozen=True, slots=True)
class Keys:
    """What a list is in the order of: a column, and `id` where the column's values are equal."""

    column: LiteralString
    is_descending: bool

    @property
    def names(self) -> LiteralString:
        """To select."""
        return "id" if self.column == "id" else f"{self.column}, id"

    @property
    def order(self) -> LiteralString:
        """To sort by."""
        direction: LiteralString = "DESC" if self.is_descending else "ASC"
        by_id: LiteralString = f"id {direction}"
        return f"ORDER BY {by_id}" if self.column == "id" else f"ORDER BY {self.column} {direction}, {by_id}"

    def order_in(self, table: LiteralString) -> LiteralString:
        """The same, where another table has these columns, too."""
        direction: LiteralString = "DESC" if self.is_descending else "ASC"
        return f"ORDER BY {table}.{self.column} {direction}, id {direction}"

    def beyond(self, value: LiteralString, last_id: LiteralString) -> LiteralString:
        """Those that come behind a row."""
        comparison: LiteralString = "<" if self.is_descending else ">"
        return (
            f"id {comparison} {last_id}" if self.column == "id" else f"({self.names}) {comparison} ({value}, {last_id})"
        )

    @property
    def up_to_edge(self) -> LiteralString:
        """Those that do not come behind the row in `edge`, where there is one.

        With a comparison of `id`, too, a scan would not end where the rows that fit do.
        """
        comparison: LiteralString = ">=" if self.is_descending else "<="
        bound = _BOUNDS[self.column][0 if self.is_descending else 1]
        return f"{self.column} {comparison} coalesce((SELECT {self.column} FROM edge), {bound})"  # noqa: S608


_BOUNDS: Final[dict[str, tuple[LiteralString, LiteralString]]] = {
    "id": ("0", "9223372036854775807"),
    "created_at": ("'-infinity'", "'infinity'"),
    "priority": ("0", "32767"),
}


@dataclass(frozen=True, slots=True)
class Parts:
    """How a table falls into parts; there is an index for each order of its list that begins with the columns.

    Attributes:
        filters: query name -> condition on parts, of those filters that say which parts match.
        within: filters on a column that the rows inside a part are in the order of.
        orders: the columns that its indexes have the rows of a part in the order of.
        fixed: filters without which these parts are not used: the index begins with their columns.
    """

    table: LiteralString
    columns: tuple[LiteralString, ...]
    filters: Mapping[str, LiteralString]
    within: frozenset[str]
    orders: frozenset[str]
    fixed: Mapping[str, LiteralString] = field(default_factory=dict)

    def serve(self, filters: Iterable[str]) -> bool:
        """Whether all of the filters are among these: for the others there is something better."""
        given = set(filters)
        return self.fixed.keys() <= given <= self.fixed.keys() | self.filters.keys() | self.within

    def found(
        self, select: LiteralString, filters: Iterable[str], conditions: Iterable[LiteralString], rest: LiteralString
    ) -> LiteralString:
        """What to select from: `found`, the rows of each part that matches the filters.

        Args:
            select: of the rows.
            conditions: that the rows must meet, too.
            rest: order and limit of each part's rows; without a limit, the planner would be free to read them all.
        """
        return f"({self._parts(filters)} {self._rows_of_each(select, conditions, rest)}) AS found"

    def first(self, keys: Keys, filters: Iterable[str], conditions: Sequence[LiteralString]) -> LiteralString:
        """Likewise, but only the first `depth` rows of all, and few that come behind them.

        Of many parts, the first rows of each are far more than are wanted. So a `few` of each are looked at before:
        behind the row that is the last wanted one among these, nothing is.
        """
        order = keys.order
        few = self._rows_of_each(keys.names, conditions, f"{order} LIMIT %(few)s")
        wanted = self._rows_of_each(keys.names, [*conditions, keys.up_to_edge], f"{order} LIMIT %(depth)s")
        return (
            f"({self._parts(filters)}, edge AS MATERIALIZED (SELECT * FROM ({few}) AS few {order}"  # noqa: S608
            f" OFFSET %(depth)s - 1 LIMIT 1) {wanted}) AS found"
        )

    def _parts(self, filters: Iterable[str]) -> LiteralString:
        """Those that match, found from each to the next by the index."""
        names: LiteralString = ", ".join(self.columns)
        here: LiteralString = ", ".join([f"part.{column}" for column in self.columns])
        chosen: LiteralString = " AND ".join(
            ["true", *(self.filters[name] for name in filters if name in self.filters)]
        )
        fixed: LiteralString = " AND ".join(["true", *self.fixed.values()])
        a_part: LiteralString = f"SELECT {names} FROM {self.table} WHERE {fixed}"  # noqa: S608
        return (
            f"WITH RECURSIVE part AS (({a_part} ORDER BY {names} LIMIT 1) UNION ALL SELECT next.* FROM part,"  # noqa: S608
            f" LATERAL ({a_part} AND ({names}) > ({here}) ORDER BY {names} LIMIT 1) AS next),"
            f" chosen AS MATERIALIZED (SELECT * FROM part WHERE {chosen})"
        )

    def _rows_of_each(
        self, select: LiteralString, conditions: Iterable[LiteralString], rest: LiteralString
    ) -> LiteralString:
        names: LiteralString = ", ".join(self.columns)
        here: LiteralString = ", ".join([f"chosen.{column}" for column in self.columns])
        wanted: LiteralString = " AND ".join([f"({names}) = ({here})", *self.fixed.values(), *conditions])
        return f"SELECT row.* FROM chosen, LATERAL (SELECT {select} FROM {self.table} WHERE {wanted} {rest}) AS row"  # noqa: S608
