"""Room for a dump: what a start makes of an empty database, without a row of anybody's, is taken out of it again."""

from typing import Final

import psycopg
from psycopg import sql

from jobs.errors import PressroomError, Unavailable

_MADE_BY_A_START: Final = frozenset({"schema_migrations", "workers", "secrets", "alerts"})
_FUNCTIONS: Final = ("token_count", "prepare_embeddings", "index_embeddings")
_LOCK_TIMEOUT: Final = "5s"  # whoever works with it has the tables open for moments only


class NotEmpty(PressroomError):
    """The database holds what a restore would destroy; the message says what."""


def make_room(url: str) -> None:
    """Empty a database in which there is nothing but what `make run` puts there by itself, or nothing at all.

    Processes that use it find no tables from then on, so nothing can be stored before the dump is.

    Raises:
        NotEmpty: there is more; nothing was changed.
        Unavailable: it cannot be reached, or somebody works with it.
    """
    try:
        with psycopg.connect(url, connect_timeout=10) as connection:
            _empty(connection)
    except psycopg.OperationalError as error:
        raise Unavailable(str(error).partition("\n")[0]) from error


def _empty(connection: psycopg.Connection) -> None:
    connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(_LOCK_TIMEOUT))
    query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"
    names = [row[0] for row in connection.execute(query)]
    if not names:
        return
    if "schema_migrations" not in names:
        raise NotEmpty(f"it has tables that are not Pressroom's ({names[0]}...)")
    tables = {name: sql.Identifier("public", name) for name in names}
    every = sql.SQL(", ").join(tables.values())
    connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(every))
    holding = [name for name in names if name not in _MADE_BY_A_START and _has_rows(connection, name, tables[name])]
    if holding:
        raise NotEmpty(f"it has {', '.join(holding)}")
    connection.execute(sql.SQL("DROP TABLE {}").format(every))
    for function in _FUNCTIONS:
        connection.execute(sql.SQL("DROP FUNCTION IF EXISTS {}").format(sql.Identifier("public", function)))


def _has_rows(connection: psycopg.Connection, name: str, table: sql.Identifier) -> bool:
    beside = sql.SQL("WHERE builtin IS NULL" if name == "schedules" else "")
    return connection.execute(sql.SQL("SELECT FROM {} {} LIMIT 1").format(table, beside)).fetchone() is not None
