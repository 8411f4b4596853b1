"""Dumps of the database with pg_dump, and back with pg_restore and psql. The password is never on a command line.

`python -m jobs.backup dump` dumps the database that the settings name; `python -m jobs.backup restore FILE` restores
into it, when it is empty or freshly migrated.
"""

import asyncio
import logging
import os
import re
import shutil
import sys
from asyncio.subprocess import Process
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import structlog

from jobs import settings
from jobs.bundled import postgres_programs
from jobs.errors import PressroomError, Unavailable
from jobs.secrets import clean
from jobs.settings import Settings, child_environment, unreachable
from jobs.store.database import Database, connection_facts, is_pooled
from jobs.store.emptying import NotEmpty, make_room

log = structlog.get_logger(__name__)

_NAME: Final = "pressroom-%Y%m%dT%H%M%S%fZ.dump"
_PATTERN: Final = "pressroom-*.dump"
_VERSION = re.compile(r"\b(\d+)(?:\.\d+)*\b")
_SAID_CHARS: Final = 500
# Among the first lines of what pg_restore writes; PostgreSQL before 17 does not know it, and it does nothing here.
_NEW_SETTING: Final = b"SET transaction_timeout "
_HEAD_LINES: Final = 30
_CHUNK_BYTES: Final = 256 * 1024


class BackupError(PressroomError):
    """A dump or a restore failed; the message says why.

    Attributes:
        was_ended: somebody told the program to end: it may do better another time.
    """

    def __init__(self, message: str, *, was_ended: bool = False) -> None:
        self.was_ended = was_ended
        super().__init__(message)


async def dump(url: str, directory: Path, server_version: int) -> Path:
    """Dump the database into a new file, which appears under its name only when it is whole and verified.

    Args:
        server_version: the server's major version.

    Raises:
        BackupError: pg_dump is missing, older than the server, or failed.
    """
    await _refuse_pooler(url)
    program = await fit_program(server_version)
    directory.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - a moment, in a task of its own
    target = directory / datetime.now(UTC).strftime(_NAME)
    unfinished = target.with_suffix(".part")
    try:
        unfinished.touch(mode=0o600)  # pg_dump writes into what is there: nobody else may read along
        await _run(url, program, "--format=custom", "--no-owner", "--file", str(unfinished))
        # The list of contents alone would not notice a file that was cut off.
        for whole in (["--list"], ["--file", os.devnull]):
            await _run(None, _program("pg_restore"), *whole, str(unfinished))
        unfinished.rename(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return target


async def fit_program(server_version: int) -> str:
    """The pg_dump that dumps a server of this major version; raises `BackupError` when there is none."""
    program = _program("pg_dump")
    found = await _version(program)
    if found < server_version:
        raise BackupError(
            f"pg_dump {found} is older than the server ({server_version}) and cannot dump it; "
            f"install the client programs of PostgreSQL {server_version}."
        )
    return program


def dump_now(configured: Settings) -> Path:
    """Dump the database that the settings name into BACKUP_DIR; older dumps stay. Raises like `restore`."""
    database = Database(configured.direct_url, max_size=1)
    database.open()
    try:
        (server,) = database.all("server_version")
    finally:
        database.close()
    return asyncio.run(dump(configured.direct_url, configured.backup_dir, server["number"] // 10_000))


async def restore(url: str, file: Path) -> None:
    """Fill an empty database, or one that was only just migrated, from a dump: wholly or not at all.

    Raises:
        BackupError: the file or the database is not fit, or pg_restore or psql failed.
        Unavailable: the database cannot be reached.
    """
    if not file.is_file():  # noqa: ASYNC240
        raise BackupError(f"There is no file {file}.")
    await _refuse_pooler(url)
    # Read through first: a dump that is cut off empties nothing.
    await _run(None, _program("pg_restore"), "--file", os.devnull, str(file))
    try:
        await asyncio.to_thread(make_room, url)
    except NotEmpty as error:
        raise BackupError(f"the database is not empty: {error}; restore into an empty one") from error
    await _refill(url, file)


def newest(directory: Path) -> Path | None:
    """The newest dump there, if there is one."""
    return max(directory.glob(_PATTERN), default=None)


def remove_old(directory: Path, keep_days: int) -> list[Path]:
    """Delete dumps older than `keep_days`, but for the newest, and left-overs of dumps that did not end.

    Returns:
        What was deleted.
    """
    kept = newest(directory)
    oldest = datetime.now(UTC) - timedelta(days=keep_days)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    removed = []
    for pattern, limit in ((_PATTERN, oldest), (f"{Path(_PATTERN).stem}.part", yesterday)):
        for path in directory.glob(pattern):
            if path != kept and datetime.fromtimestamp(path.stat().st_mtime, UTC) < limit:
                path.unlink(missing_ok=True)
                removed.append(path)
    return removed


async def _refuse_pooler(url: str) -> None:
    """pg_dump and pg_restore leave an empty search_path behind, with which a pooler would serve others."""
    try:
        is_behind_one = await asyncio.to_thread(is_pooled, url)
    except Unavailable:
        return  # the program itself will say what is wrong
    if is_behind_one:
        raise BackupError("DATABASE_URL leads to a pooler: name PostgreSQL itself in DATABASE_DIRECT_URL")


def _program(name: str) -> str:
    bundled = postgres_programs()
    found = str(bundled / name) if bundled else shutil.which(name)
    if not found:
        raise BackupError(f"{name} is not installed.")
    return found


async def _version(program: str) -> int:
    match = _VERSION.search(await _run(None, program, "--version"))
    return int(match[1]) if match else 0


async def _refill(url: str, file: Path) -> None:
    """Restore by way of psql: pg_restore itself sets what servers older than it do not know, and would give up."""
    # A comment on an extension may only be made by its owner, who may be an administrator.
    reader = await _start(None, _program("pg_restore"), "--no-owner", "--no-comments", "--file=-", str(file))
    said = [asyncio.create_task(_end_of(reader.stderr))]
    running = [reader]
    try:
        options = ("--no-psqlrc", "--quiet", f"--output={os.devnull}", "--single-transaction", "--set=ON_ERROR_STOP=1")
        writer = await _start(url, _program("psql"), *options, stdin=asyncio.subprocess.PIPE)
        said.append(asyncio.create_task(_end_of(writer.stderr)))
        running.append(writer)
        assert reader.stdout  # noqa: S101 - it is a pipe
        assert writer.stdin  # noqa: S101 - it is a pipe
        with suppress(ConnectionError):  # psql gave up, and says why
            await _pour(reader.stdout, writer.stdin)
            # psql commits at the end of its input: it must not see one when pg_restore broke off.
            _check("pg_restore", await reader.wait(), await said[0])
            writer.stdin.close()
        _check("psql", await writer.wait(), await said[1])
    finally:
        for process in running:
            if process.returncode is None:
                process.kill()
            await process.wait()
        await asyncio.gather(*said)


async def _pour(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    for _ in range(_HEAD_LINES):
        line = await source.readline()
        if line.startswith(_NEW_SETTING):
            break
        target.write(line)
    while chunk := await source.read(_CHUNK_BYTES):
        target.write(chunk)
        await target.drain()


async def _end_of(source: asyncio.StreamReader | None) -> bytes:
    return await source.read() if source else b""


async def _run(url: str | None, program: str, *arguments: str) -> str:
    process = await _start(url, program, *arguments)
    try:
        output, said = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    _check(Path(program).name, process.returncode, said)
    return output.decode(errors="replace")


async def _start(url: str | None, program: str, *arguments: str, stdin: int = asyncio.subprocess.DEVNULL) -> Process:
    public, password = connection_facts(url) if url else ("", "")
    target = ["--dbname", public] if public else []
    return await asyncio.create_subprocess_exec(
        program, *target, *arguments,
        stdin=stdin, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=child_environment(PGPASSWORD=password, PGCONNECT_TIMEOUT="10") if password else child_environment(),
    )  # fmt: skip


def _check(name: str, code: int | None, said: bytes) -> None:
    if code:
        was_ended = code < 0 or b"terminated by user" in said  # as pg_dump says it
        message = f"{name} failed: {clean(said.decode(errors='replace').strip())[:_SAID_CHARS]}"
        raise BackupError(message, was_ended=was_ended)


def main(given: Sequence[str] | None = None) -> int:
    """The command line: 0, 1 when it cannot be done, 2 for wrong arguments or settings."""
    arguments = sys.argv[1:] if given is None else given
    match arguments:
        case ["restore", ""]:
            sys.stderr.write("pressroom: name a dump: make restore FILE=data/backups/pressroom-....dump\n")
            return 2
        case ["dump"] | ["restore", _]:
            pass
        case _:
            sys.stderr.write("usage: python -m jobs.backup dump | restore FILE\n")
            return 2
    configured = settings.load_or_exit()
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)  # we say it in one line
    try:
        if arguments[0] == "dump":
            sys.stdout.write(f"{dump_now(configured)}\n")
        else:
            asyncio.run(restore(configured.direct_url, Path(arguments[1])))
            sys.stdout.write(f"restored {arguments[1]}\n")
    except Unavailable as error:
        sys.stderr.write(clean(f"pressroom: {unreachable(configured, error)}\n"))
        return 1
    except BackupError as error:
        sys.stderr.write(clean(f"pressroom: {error}\n"))
        return 1
    except OSError as error:
        sys.stderr.write(f"pressroom: {error.filename}: {error.strerror}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
