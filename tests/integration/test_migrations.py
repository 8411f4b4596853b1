"""Migrations run once, in order, whoever starts them."""

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from jobs.store import migrate as module
from jobs.store.migrate import MIGRATIONS, migrate
from tests.support.instance import clean_environment
from tests.support.servers import Servers

ROOT = Path(__file__).parents[2]

_CATALOGUE = """
SELECT 'column', table_name || '.' || column_name,
       concat_ws(' ', data_type, is_nullable, column_default, identity_generation)
FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT 'migration', name, '' FROM schema_migrations
ORDER BY 1, 2
"""


def catalogue(url: str) -> list[tuple[str, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(_CATALOGUE).fetchall()


def test_a_database_migrated_step_by_step_equals_a_fresh_one(servers: Servers) -> None:
    with servers.database("template0") as stepwise, servers.database("template0") as fresh:
        for path in sorted(MIGRATIONS.glob("*.sql")):
            assert migrate(stepwise, until=path.stem) == [path.stem]
        assert migrate(stepwise) == []
        migrate(fresh)
        assert catalogue(stepwise) == catalogue(fresh)


def test_each_runs_once_however_many_start_together(servers: Servers) -> None:
    with servers.database("template0") as url, ThreadPoolExecutor(8) as threads:
        done = [name for names in threads.map(migrate, [url] * 8) for name in names]
    assert done == [path.stem for path in sorted(MIGRATIONS.glob("*.sql"))]


def test_a_migration_that_fails_leaves_nothing_behind(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "0001_good.sql").write_text("CREATE TABLE good (id int);")
    (tmp_path / "0002_bad.sql").write_text("CREATE TABLE bad (id int); SELECT nonsense;")
    monkeypatch.setattr(module, "MIGRATIONS", tmp_path)
    with servers.database("template0") as url:
        with pytest.raises(psycopg.Error):
            migrate(url)
        with psycopg.connect(url) as connection:
            tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert tables == []


def test_the_release_command_says_what_it_did(servers: Servers) -> None:
    with servers.database("template0") as url:
        command = [sys.executable, "-m", "jobs.store.migrate"]
        environment = clean_environment(DATABASE_URL=url, LOG_FORMAT="json")
        runs = [
            subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
            for _ in range(2)
        ]
    every = ", ".join(path.stem for path in sorted(MIGRATIONS.glob("*.sql")))
    said = [json.loads(run.stdout) for run in runs]
    assert [line["event"] for line in said] == ["migrated", "migrated"]
    assert [line["migrations"] for line in said] == [every, "nothing to do"]


def test_the_release_command_explains_a_database_that_is_away() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "jobs.store.migrate"],
        cwd=ROOT,
        env=clean_environment(DATABASE_URL="postgresql://u:secretpassword@127.0.0.1:1/x"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "cannot reach the database" in run.stdout
    assert "Traceback" not in run.stdout + run.stderr
    assert "secretpassword" not in run.stdout + run.stderr


_BREAKS = re.compile(
    r"\b(DROP\s+(?:TABLE|COLUMN|VIEW|FUNCTION)|RENAME|ALTER\s+(?:COLUMN\s+)?\w+\s+(?:SET\s+DATA\s+)?TYPE"
    r"|SET\s+NOT\s+NULL|ADD\s+COLUMN\s+(?:(?!DEFAULT|GENERATED)[^,;])*\bNOT\s+NULL(?:(?!DEFAULT|GENERATED)[^,;])*[,;])",
    re.IGNORECASE,
)


@pytest.mark.parametrize("path", sorted(MIGRATIONS.glob("*.sql")), ids=lambda path: path.stem)
def test_the_version_before_survives_it(path: Path) -> None:
    """While a new version is rolled out, the one before still works: docs/upgrading.md has the rule, and the note."""
    text = path.read_text()
    breaking = _BREAKS.findall(re.sub(r"--.*", "", text))
    assert not breaking or "-- contracts:" in text, f"{breaking}: say why no version in use needs it"


@pytest.mark.parametrize(
    ("statement", "breaks"),
    [
        ("ALTER TABLE t DROP COLUMN c;", True), ("ALTER TABLE t RENAME c TO d;", True),
        ("ALTER TABLE t ADD COLUMN c int NOT NULL;", True), ("ALTER TABLE t ALTER c SET NOT NULL;", True),
        ("ALTER TABLE t ALTER COLUMN c TYPE text;", True), ("ALTER TABLE t ADD COLUMN c int;", False),
        ("ALTER TABLE t ADD COLUMN c int NOT NULL DEFAULT 0, ADD COLUMN d text;", False),
        ("DROP INDEX i; CREATE TABLE t (c int NOT NULL);", False),
    ],
)  # fmt: skip
def test_what_breaks_the_version_before_is_seen(statement: str, *, breaks: bool) -> None:
    assert bool(_BREAKS.search(statement)) is breaks
