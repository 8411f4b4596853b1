"""SQL in files is found by name."""

from pathlib import Path

import pytest

from jobs.store import queries


def test_statements_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_text("-- name: one\nSELECT 1\n\n-- name: two\n-- why\nSELECT 2\n")
    assert queries.load(tmp_path) == {"one": "SELECT 1", "two": "-- why\nSELECT 2"}


def test_a_name_given_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_text("-- name: one\nSELECT 1\n-- name: one\nSELECT 2\n")
    with pytest.raises(ValueError, match="twice"):
        queries.load(tmp_path)


def test_every_statement_is_used() -> None:
    root = Path(queries.__file__).parents[2]
    rooms = ("api", "cli", "jobs", "scheduler")
    sources = "".join(path.read_text() for room in rooms for path in (root / room).rglob("*.py"))
    unused = [name for name in queries.QUERIES if f'"{name}"' not in sources]
    assert not unused
