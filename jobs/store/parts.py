"""Lists of a large table by its parts: rows that are equal in a few columns of few values.

No index has the rows of every combination of filters in every order. But where an index begins with such columns
(states, types, priorities), each combination of values that occurs in the table is a part, whose rows lie there in
order. A page then is the first of the first rows of every part that matches, and a total the sum of theirs. That takes
some milliseconds, however large the table is, and however few of its rows match.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import LiteralString


@dataclass(frozen=True, slots=True)
class Parts:
    """How a table falls into parts; there is an index for each order of its list that begins with the columns.

    Attributes:
        filters: query name -> condition on parts, of those filters that say which parts match.
        within: filters on a column that the rows inside a part are in the order of.
    """

    table: LiteralString
    columns: tuple[LiteralString, ...]
    filters: Mapping[str, LiteralString]
    within: frozenset[str]

    def serve(self, filters: Iterable[str]) -> bool:
        """Whether all of the filters are among these: for the others there is something better."""
        return self.filters.keys() | self.within >= set(filters)

    def found(
        self, select: LiteralString, filters: Iterable[str], conditions: Iterable[LiteralString], rest: LiteralString
    ) -> LiteralString:
        """What to select from: `found`, the rows of each part that matches the filters.

        Args:
            select: of the rows.
            conditions: that the rows must meet, too.
            rest: order and limit of each part's rows; without a limit, the planner would be free to read them all.
        """
        names: LiteralString = ", ".join(self.columns)
        here: LiteralString = ", ".join([f"part.{column}" for column in self.columns])
        chosen: LiteralString = " AND ".join(
            ["true", *(self.filters[name] for name in filters if name in self.filters)]
        )
        wanted: LiteralString = " AND ".join([f"({names}) = ({here})", *conditions])
        a_part: LiteralString = f"SELECT {names} FROM {self.table}"  # noqa: S608
        return (
            # From each part to the next, by the index.
            f"(WITH RECURSIVE part AS (({a_part} ORDER BY {names} LIMIT 1) UNION ALL SELECT next.* FROM part,"  # noqa: S608
            f" LATERAL ({a_part} WHERE ({names}) > ({here}) ORDER BY {names} LIMIT 1) AS next)"
            f" SELECT row.* FROM (SELECT * FROM part WHERE {chosen}) AS part,"
            f" LATERAL (SELECT {select} FROM {self.table} WHERE {wanted} {rest}) AS row) AS found"
        )
