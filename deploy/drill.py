"""`make drill`: can a dump be restored? Into a PostgreSQL of its own that is gone afterwards; no task in it runs.

`python -m deploy.drill [FILE]`; without one, the newest dump in BACKUP_DIR.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg

from deploy import embedded
from jobs import backup, settings
from jobs.errors import PressroomError
from jobs.secrets import clean
from jobs.settings import embedded_urls
from jobs.store.migrate import migrate

_START_SECONDS = 60.0
_POLL_SECONDS = 0.1


@contextmanager
def _postgres(place: Path) -> Iterator[str]:
    """The URL of a server that is there for the block."""
    # Containers have little of the shared memory that several processes need to build one index.
    server = embedded.prepare_postgres(place, {"fsync": "off", "max_parallel_maintenance_workers": "0"})
    process = subprocess.Popen(
        server.command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **server.identity
    )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not embedded.postgres_answers(place):
            if process.poll() is not None or time.monotonic() > deadline:
                raise embedded.EmbeddedError("PostgreSQL does not start")
            time.sleep(_POLL_SECONDS)
        yield embedded_urls(place)[0]
    finally:
        process.send_signal(server.stop_signal)
        process.wait()


def drill(file: Path) -> str:
    """Restore a dump, bring it up to date, and look at what is in it.

    Raises:
        EmbeddedError, PressroomError, psycopg.Error: it cannot be restored.
    """
    with tempfile.TemporaryDirectory(prefix="pressroom-drill-") as place, _postgres(Path(place)) as url:
        began = time.monotonic()
        asyncio.run(backup.restore(url, file))
        migrate(url)
        seconds = time.monotonic() - began
        with psycopg.connect(url) as connection:
            found = connection.execute("SELECT count(*), date_trunc('second', max(created_at)) FROM tasks").fetchone()
    count, newest = found or (0, None)
    return f"{file.name} can be restored, in {seconds:.1f} s: {count} tasks, the newest of {newest or 'no day'}"


def main(given: Sequence[str] | None = None) -> int:
    """The command line: 0, 1 when it cannot be restored, 2 for wrong arguments or settings."""
    configured = settings.load_or_exit()
    match [argument for argument in (sys.argv[1:] if given is None else given) if argument]:
        case []:
            file = backup.newest(configured.backup_dir)
        case [name]:
            file = Path(name)
        case _:
            sys.stderr.write("usage: python -m deploy.drill [FILE]\n")
            return 2
    if file is None:
        sys.stderr.write(f"pressroom: there is no dump in {configured.backup_dir}; make one: pressroom backup\n")
        return 1
    try:
        sys.stdout.write(f"{drill(file)}\n")
    except (embedded.EmbeddedError, PressroomError, psycopg.Error, OSError) as error:
        sys.stderr.write(clean(f"pressroom: {error}\n"))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
