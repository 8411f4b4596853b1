"""A restore fills a database in which nothing is anybody's, and touches no other."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg
import pytest
from flask.testing import FlaskClient

from deploy import drill
from jobs import backup
from jobs.errors import AttemptError
from jobs.handlers.context import Context
from jobs.handlers.maintenance import database_backup
from jobs.settings import Settings
from jobs.store import database as store
from jobs.store.database import Database
from jobs.store.migrate import migrate
from tests.support.contexts import FACTS, SilentLine
from tests.support.servers import Servers
from tests.support.waiting import wait_until


@pytest.fixture
def dump(client: FlaskClient, configured: Settings, tmp_path: Path) -> Path:
    assert client.post("/api/v1/tasks", json={"prompt": "kept", "model": "m"}).status_code == 201
    with psycopg.connect(configured.database_url) as connection:
        version = connection.info.server_version // 10_000
    return asyncio.run(backup.dump(configured.database_url, tmp_path, version))


@pytest.fixture
def fresh(servers: Servers) -> Iterator[str]:
    with servers.database() as url:
        yield url


def prompts(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute("SELECT prompt FROM tasks")]


def test_a_migrated_database_in_which_nothing_is_yet_takes_a_dump(dump: Path, fresh: str) -> None:
    with psycopg.connect(fresh) as connection:
        connection.execute(
            "INSERT INTO schedules (name, task_type, cron_expression, timezone, misfire_policy, overlap_policy,"
            " builtin) VALUES ('b', 't', '0 2 * * *', 'UTC', 'skip', 'skip', 'b')"
        )
    asyncio.run(backup.restore(fresh, dump))
    assert prompts(fresh) == ["kept"]
    assert migrate(fresh) == []


SCHEDULE = (
    "INSERT INTO schedules (name, task_type, cron_expression, timezone, misfire_policy, overlap_policy)"
    " VALUES ('mine', 't', '0 2 * * *', 'UTC', 'skip', 'skip')"
)


@pytest.mark.parametrize(
    ("statement", "held"),
    [
        ("INSERT INTO accounts (id, name, profile) VALUES (1, 'a', '{}')", "accounts"),
        (SCHEDULE, "schedules"),
        ("INSERT INTO memories (topic, summary, version, task_id) VALUES ('t', '', 1, 1)", "memories"),
    ],
)
def test_one_row_of_somebodys_is_not_empty(statement: str, held: str, dump: Path, fresh: str) -> None:
    with psycopg.connect(fresh) as connection:
        connection.execute(statement)
    with pytest.raises(backup.BackupError, match=f"^the database is not empty: it has {held}; restore into an empty"):
        asyncio.run(backup.restore(fresh, dump))
    with psycopg.connect(fresh) as connection:
        assert connection.execute(f"SELECT count(*) FROM {held}").fetchall() == [(1,)]


def test_a_strangers_tables_are_not_touched(dump: Path, servers: Servers) -> None:
    with servers.database("template0") as url:
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE theirs ()")
        with pytest.raises(backup.BackupError, match="not empty: it has tables that are not Pressroom's"):
            asyncio.run(backup.restore(url, dump))


def test_a_dump_that_somebody_ended_is_made_another_time(client: FlaskClient, configured: Settings) -> None:
    context = Context(replace(FACTS, task_type="database_backup"), configured, SilentLine())

    def of_pg_dump() -> list[psutil.Process]:
        return [child for child in psutil.Process().children() if child.name() == "pg_dump"]

    with psycopg.connect(configured.database_url) as connection, ThreadPoolExecutor() as thread:
        connection.execute("LOCK TABLE tasks")  # for which pg_dump waits
        made = thread.submit(database_backup, context)
        waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'tasks'::regclass"
        wait_until(lambda: connection.execute(waits).fetchall(), "pg_dump waits")
        of_pg_dump()[0].terminate()  # as Heroku does with every process of a dyno
        with pytest.raises(AttemptError) as caught:
            made.result()
    assert (caught.value.error.code, caught.value.error.retryable) == ("backup_failed", True)


def test_a_dump_that_is_cut_off_empties_nothing(dump: Path, fresh: str) -> None:
    dump.write_bytes(dump.read_bytes()[:-2000])
    with pytest.raises(backup.BackupError, match="pg_restore failed"):
        asyncio.run(backup.restore(fresh, dump))
    assert prompts(fresh) == []


def test_a_pooler_is_not_dumped_from(configured: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As if another than the server had told the number of its process.
    monkeypatch.setattr(store, "_PID", "SELECT -1 AS pid")
    with pytest.raises(backup.BackupError, match="DATABASE_DIRECT_URL"):
        asyncio.run(backup.dump(configured.database_url, tmp_path, 18))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_pooled", [False, True])
def test_behind_a_pooler_nothing_is_prepared(
    configured: Settings, monkeypatch: pytest.MonkeyPatch, *, is_pooled: bool
) -> None:
    if is_pooled:
        monkeypatch.setattr(store, "_PID", "SELECT -1 AS pid")
    database = Database(configured.database_url, max_size=1)
    database.open()
    try:
        for _ in range(10):
            database.all("server_version")
        with database.transaction() as session:
            prepared = session.run("SELECT count(*) AS n FROM pg_prepared_statements")
    finally:
        database.close()
    assert bool(prepared[0]["n"]) is not is_pooled


def test_a_drill_restores_the_newest_dump_beside_the_database(
    dump: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(dump.parent)
    monkeypatch.setenv("BACKUP_DIR", str(dump.parent))
    (dump.parent / "pressroom-20200101T000000000000Z.dump").write_text("an old one")
    assert drill.main([]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{dump.name} can be restored, ")
    assert ": 1 tasks, the newest of 20" in said
    dump.write_bytes(dump.read_bytes()[:2000])
    assert drill.main([str(dump)]) == 1
    assert "pg_restore failed" in capsys.readouterr().err


def test_a_drill_without_a_dump_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert drill.main([""]) == 1
    assert "there is no dump in data/backups" in capsys.readouterr().err
