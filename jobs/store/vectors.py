"""The vectors nearest to one: exactly among few, through an index among many."""

from collections.abc import Mapping
from typing import Any, Final, LiteralString

from jobs.store.database import Row, Session

EXACT_UP_TO: Final = 10_000
"""So many vectors are compared one by one; more are searched through the index, which finds nearly all of the
nearest."""

INDEXED_DIMENSIONS: Final = 4000
"""Vectors with more are always compared one by one: pgvector cannot index them."""

# The cast and the condition must be the index's, to the letter.
_THROUGH_INDEX: Final[LiteralString] = """
SELECT external_id AS id, text, collection, metadata, 1 - (vector <=> %(vector)s::vector) AS score, task_id FROM (
    SELECT * FROM embeddings WHERE collection = %(collection)s AND model = %(model)s AND dimensions = DIMENSIONS
    ORDER BY vector::halfvec(DIMENSIONS) <=> %(vector)s::halfvec(DIMENSIONS) LIMIT %(limit)s) AS near
ORDER BY score DESC"""


def nearest(session: Session, space: Mapping[str, Any], vector: str, limit: int) -> list[Row]:
    """The texts whose vectors are nearest by cosine, nearest first: `id`, `text`, `score`...

    Args:
        space: `collection`, `model` and `dimensions`: what can be compared with the vector.
        vector: a JSON array of numbers.
    """
    wanted = {**space, "vector": vector, "limit": limit}
    counted = session.all("count_embeddings", {**space, "most": EXACT_UP_TO + 1})[0]["count"]
    if counted > EXACT_UP_TO and space["dimensions"] <= INDEXED_DIMENSIONS:
        session.all("search_widely")
        rows = session.run(_THROUGH_INDEX.replace("DIMENSIONS", str(int(space["dimensions"]))), wanted)
        if len(rows) == limit:
            return rows
        # A small part of all vectors, of which the index ran out.
    return session.all("nearest_embeddings", wanted)
