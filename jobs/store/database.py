"""Connections to PostgreSQL: a pool for threads (web, scheduler) and one for the worker's event loop."""

import asyncio
import select
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, LiteralString

import orjson
import psycopg
import psycopg.conninfo
import psycopg.errors
import psycopg.types.json
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolTimeout

from jobs.errors import Unavailable
from jobs.store.queries import QUERIES

Row = dict[str, Any]
Params = Mapping[str, Any]

psycopg.types.json.set_json_loads(orjson.loads)
psycopg.types.json.set_json_dumps(orjson.dumps)
Json = psycopg.types.json.Jsonb
Refused = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded)
"""What PostgreSQL raises for values that it will not store."""

# What libpq itself should notice: a server that went away without a word.
_CONNECTION: dict[str, Any] = {
    "row_factory": dict_row,
    "autocommit": True,  # a statement of its own is one round trip then, not three
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
_UNAVAILABLE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.InternalError,  # as on a server that became read-only
    psycopg.errors.UndefinedTable,  # not migrated yet
    PoolTimeout,
)
# How long one transaction on an event loop, or one statement of a thread, may take: a server that hangs closes nothing.
_PATIENCE_SECONDS = 15.0
_PID: Final = "SELECT pg_backend_pid() AS pid"
_RECONNECT_SECONDS = 3.0  # after an outage; the pool's own pauses grow as long as the outage was
_POOL_WAIT_SECONDS = 1.5
# Whoever waited in vain need not be waited for again by the next, nor by the same request's next transaction.
_SHORT_WAIT_SECONDS, _AWAY_SECONDS = 0.1, 1.0


def _was_closed(connection: "psycopg.BaseConnection[Any]") -> bool:
    """Whether the server closed an idle connection: its socket has something to read."""
    poller = select.poll()  # select() itself fails with many files open
    poller.register(connection.fileno(), select.POLLIN)
    return bool(poller.poll(0))


def _check(connection: psycopg.Connection[Row]) -> None:
    """Refuse a connection that is closed, so that the pool takes another.

    Raises:
        psycopg.OperationalError: as the pool expects it.
    """
    if _was_closed(connection):
        connection.close()  # or the pool would take it for a good one again
        raise psycopg.OperationalError("the server closed the connection")


async def _check_async(connection: psycopg.AsyncConnection[Row]) -> None:
    if _was_closed(connection):
        await connection.close()
        raise psycopg.OperationalError("the server closed the connection")


def is_pooled(url: str) -> bool:
    """Whether a pooler, as pgbouncer, answers in PostgreSQL's place; raises `Unavailable` when nobody answers."""
    with _outages_told(), psycopg.connect(url, connect_timeout=10) as connection:
        (pid,) = connection.execute(_PID).fetchone() or (0,)
        return bool(pid != connection.info.backend_pid)


def _look_for_pooler(connection: psycopg.Connection[Row]) -> None:
    """Prepare nothing behind a pooler: the next transaction may be another server process's, which knows nothing of it.

    The server process has the number that was told when the connection was made, or somebody is in between.
    """
    if connection.execute(_PID).fetchone() != {"pid": connection.info.backend_pid}:
        connection.prepare_threshold = None


async def _look_for_pooler_async(connection: psycopg.AsyncConnection[Row]) -> None:
    if await (await connection.execute(_PID)).fetchone() != {"pid": connection.info.backend_pid}:
        connection.prepare_threshold = None


def _has_rows(cursor: "psycopg.Cursor[Row] | psycopg.AsyncCursor[Row]") -> bool:
    """Whether the statement returns rows; asking for `description` would make an object for each column."""
    return cursor.pgresult is not None and cursor.pgresult.nfields > 0


def _reason(error: Exception) -> str:
    """The first line of a driver's message: the rest may repeat the connection string."""
    return str(error).partition("\n")[0] or type(error).__name__


@contextmanager
def _outages_told() -> Iterator[None]:
    try:
        yield
    except Refused:
        raise
    except _UNAVAILABLE as error:
        raise Unavailable(_reason(error)) from error


def connection_facts(url: str) -> tuple[str, str]:
    """A connection string without its password, and the password (empty when there is none)."""
    facts = psycopg.conninfo.conninfo_to_dict(url)
    password = str(facts.pop("password", "") or "")
    return psycopg.conninfo.make_conninfo("", **facts), password


class _Connection(psycopg.Connection[Row]):
    """A connection that gives up on a server that does not answer."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """As the driver's, which raises an `OperationalError` when it takes too long; it is then closed."""
        try:
            return super().wait(gen, interval, _PATIENCE_SECONDS if timeout is None else timeout)
        except psycopg.errors._WaitTimeout:
            self.pgconn.finish()
            raise


class Session:
    """One open transaction."""

    def __init__(self, connection: psycopg.Connection[Row]) -> None:
        self._connection = connection

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part of the transaction that is undone alone when the block raises."""
        with self._connection.transaction():
            yield

    def all(
        self, name: str, params: Params | None = None, *, then: str | None = None, keep_plan: bool = True
    ) -> list[Row]:
        """The rows of the named statement.

        Args:
            then: the name of its second half, where there are several to choose from.
            keep_plan: False where a plan made for any parameters would be a bad one.
        """
        statement = QUERIES[name] if then is None else f"{QUERIES[name]}\n{QUERIES[then]}"
        return self.run(statement, params, keep_plan=keep_plan)

    def one(self, name: str, params: Params | None = None) -> Row | None:
        """The first row of the named statement, if any."""
        return next(iter(self.all(name, params)), None)

    def run(self, statement: LiteralString, params: Params | None = None, *, keep_plan: bool = True) -> list[Row]:
        """Rows of a statement composed elsewhere in the store."""
        # psycopg prepares what is executed often, and PostgreSQL then keeps a plan for any parameters.
        # Here, too: whoever catches what happens within a transaction must know an outage for one.
        with _outages_told():
            cursor = self._connection.execute(statement, params, prepare=None if keep_plan else False)
        return cursor.fetchall() if _has_rows(cursor) else []


class Database:
    """A pool of connections for threads.

    All methods raise `Unavailable` when PostgreSQL cannot be reached or went away meanwhile; what a
    transaction did is then not there.
    """

    def __init__(self, url: str, *, max_size: int) -> None:
        self._pool = ConnectionPool(
            url, kwargs=_CONNECTION, min_size=1, max_size=max_size, timeout=_POOL_WAIT_SECONDS, open=False,
            reconnect_timeout=_RECONNECT_SECONDS, check=_check, configure=_look_for_pooler,
            connection_class=_Connection, name="pressroom",
        )  # fmt: skip
        self._away_until = 0.0

    def open(self) -> None:
        """Start connecting in the background; does not wait for the server."""
        self._pool.open()

    def close(self) -> None:
        """Give all connections back."""
        self._pool.close()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A transaction: committed at the end of the block, rolled back when it raises."""
        with self._connection() as connection, connection.transaction():
            yield Session(connection)

    def all(self, name: str, params: Params | None = None, *, then: str | None = None) -> list[Row]:
        """Rows of the named statement in a transaction of its own."""
        with self._connection() as connection:
            return Session(connection).all(name, params, then=then)

    def one(self, name: str, params: Params | None = None) -> Row | None:
        """First row of the named statement in a transaction of its own."""
        return next(iter(self.all(name, params)), None)

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[Row]]:
        short = _SHORT_WAIT_SECONDS if time.monotonic() < self._away_until else None
        with _outages_told():
            try:
                with self._pool.connection(short) as connection:
                    yield connection
            except PoolTimeout:
                self._away_until = time.monotonic() + _AWAY_SECONDS
                raise


class AsyncSession:
    """One open transaction on an event loop."""

    def __init__(self, connection: psycopg.AsyncConnection[Row]) -> None:
        self._connection = connection

    async def all(self, name: str, params: Params | None = None) -> list[Row]:
        """The rows of the named statement."""
        cursor = await self._connection.execute(QUERIES[name], params)
        return await cursor.fetchall() if _has_rows(cursor) else []


class AsyncDatabase:
    """The same for the worker's event loop."""

    def __init__(self, url: str, *, max_size: int) -> None:
        self._pool = AsyncConnectionPool(
            url, kwargs=_CONNECTION, min_size=1, max_size=max_size, timeout=_POOL_WAIT_SECONDS, open=False,
            reconnect_timeout=_RECONNECT_SECONDS, check=_check_async, configure=_look_for_pooler_async,
            connection_class=psycopg.AsyncConnection[Row], name="pressroom",
        )  # fmt: skip

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["AsyncDatabase"]:
        """The pool's life."""
        await self._pool.open()
        try:
            yield self
        finally:
            await self._pool.close()

    async def all(self, name: str, params: Params | None = None) -> list[Row]:
        """Rows of the named statement, committed."""
        async with self._connection() as connection:
            return await AsyncSession(connection).all(name, params)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A transaction: committed at the end of the block, rolled back when it raises."""
        async with self._connection() as connection, connection.transaction():
            yield AsyncSession(connection)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[psycopg.AsyncConnection[Row]]:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS), self._pool.connection() as connection:
                yield connection
        except TimeoutError as error:
            raise Unavailable(f"no answer within {_PATIENCE_SECONDS:g} s") from error
        except Refused:
            raise
        except _UNAVAILABLE as error:
            raise Unavailable(_reason(error)) from error
