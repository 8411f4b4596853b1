"""Backups: what cannot work is explained, and old files go."""

import asyncio
import os
import stat
import time
from pathlib import Path
from unittest.mock import create_autospec

import pytest

from jobs import backup
from jobs.store.database import connection_facts


def test_a_pg_dump_older_than_the_server_says_so(tmp_path: Path) -> None:
    with pytest.raises(backup.BackupError, match=r"pg_dump \d+ is older than the server \(99\)"):
        asyncio.run(backup.dump("postgresql://127.0.0.1:1/x", tmp_path, server_version=99))
    assert list(tmp_path.iterdir()) == []


def test_a_dump_that_fails_leaves_no_file_and_shows_no_password(tmp_path: Path) -> None:
    with pytest.raises(backup.BackupError, match="pg_dump failed") as caught:
        asyncio.run(backup.dump("postgresql://u:hunter22222@127.0.0.1:1/x", tmp_path, server_version=9))
    assert "hunter2" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_dump_is_nobody_elses_to_read_while_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []

    async def run(_url: str | None, _program: str, *arguments: str) -> str:
        if "--format=custom" in arguments:
            modes.append(stat.S_IMODE(Path(arguments[-1]).stat().st_mode))
        return "pg_dump (PostgreSQL) 18.0"

    monkeypatch.setattr(backup, "_run", run)
    made = asyncio.run(backup.dump("postgresql://127.0.0.1:1/x", tmp_path, server_version=18))
    assert modes == [stat.S_IMODE(made.stat().st_mode)] == [0o600]


def test_the_password_is_kept_out_of_the_connection_string() -> None:
    public, password = connection_facts("postgresql://u:hunter22222@h:5433/d?sslmode=require")
    assert password == "hunter22222"
    assert "hunter2" not in public
    assert all(part in public for part in ("user=u", "host=h", "port=5433", "dbname=d", "sslmode=require"))


def test_old_dumps_and_left_overs_are_removed_and_nothing_else(tmp_path: Path) -> None:
    ages = {
        "pressroom-20260101T000000000000Z.dump": 8,
        "pressroom-20260102T000000000000Z.dump": 6,
        "pressroom-20260105T000000000000Z.dump": 9,
        "pressroom-20260103T000000000000Z.part": 2,
        "pressroom-20260104T000000000000Z.part": 0,
        "notes.txt": 99,
    }
    for name, days in ages.items():
        path = tmp_path / name
        path.write_text("x")
        moment = time.time() - days * 86_400 - 60
        os.utime(path, (moment, moment))
    removed = backup.remove_old(tmp_path, keep_days=7)
    assert {path.name for path in removed} == {
        "pressroom-20260101T000000000000Z.dump",
        "pressroom-20260103T000000000000Z.part",
    }


def test_a_restore_without_a_file_says_how_to_name_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["backup", "restore", ""])
    assert backup.main() == 2
    assert "name a dump: make restore FILE=" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(backup.BackupError, match="no file"):
        asyncio.run(backup.restore("postgresql://127.0.0.1:1/x", tmp_path / "none.dump"))


def test_what_servers_before_17_do_not_know_is_left_out_and_only_at_the_head() -> None:
    head = b"--\n-- PostgreSQL database dump\n--\n"
    setting = b"SET transaction_timeout = 0;\n"
    rest = b"SET lock_timeout = 0;\n" + b"x" * 100_000 + b"\n" + setting
    assert asyncio.run(_poured(head + setting + rest)) == head + rest


async def _poured(script: bytes) -> bytes:
    source = asyncio.StreamReader()
    source.feed_data(script)
    source.feed_eof()
    written = bytearray()
    target = create_autospec(asyncio.StreamWriter, instance=True)
    target.write.side_effect = written.extend
    await backup._pour(source, target)
    return bytes(written)
