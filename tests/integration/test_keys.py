"""Keys that are made on the command line: they work until they end, and nobody without one gets in."""

import time
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api import create_app, services
from jobs import access
from jobs.access import Keyring
from jobs.errors import SettingsError, Unavailable
from jobs.settings import Settings
from jobs.store.database import Database
from tests.support.access import AWAY, GIVEN, Line, acts, bearer, serving, sql
from tests.support.waiting import wait_until

TASK = {"prompt": "p", "model": "m"}


class TestStoredKeys:
    def test_a_key_works_at_once_and_until_it_is_revoked(self, line: Line, client: FlaskClient) -> None:
        token = line("make", "ci", "--scope", "submit")
        assert access.TOKEN.fullmatch(token)
        assert client.post("/api/v1/tasks", json=TASK, headers=bearer(token)).status_code == 201
        assert client.get("/api/v1/tasks", headers={"X-API-Key": token}).status_code == 200
        assert client.post("/api/v1/accounts", json={"name": "x"}, headers=bearer(token)).status_code == 403
        line("revoke", "ci")
        assert client.get("/api/v1/tasks", headers=bearer(token)).status_code == 401

    def test_only_its_digest_is_kept(self, line: Line, database: Database) -> None:
        token = line("make", "ci", "--scope", "read")
        (row,) = sql(database, "SELECT k::text AS text FROM api_keys AS k")
        assert token.split("_")[2] not in row["text"]
        assert token.split("_")[1] in row["text"]

    def test_the_first_key_closes_the_service_and_revoking_the_last_one_does_not_open_it(
        self, line: Line, client: FlaskClient
    ) -> None:
        assert client.get("/api/v1/tasks").status_code == 200
        line("make", "ci", "--scope", "read")
        assert client.get("/api/v1/tasks").status_code == 401
        line("revoke", "ci")
        assert client.get("/api/v1/tasks").status_code == 401
        assert client.get("/api/v1/health").status_code == 200

    def test_what_only_resembles_a_key_is_none(self, line: Line, client: FlaskClient) -> None:
        token = line("make", "ci", "--scope", "admin")
        prefix, secret = token.split("_")[1:]
        for wrong in (f"pr_{prefix}_{'0' * 64}", f"pr_{'0' * 12}_{secret}", f"{token}0", f"pr_{prefix}_", secret):
            assert client.get("/api/v1/tasks", headers=bearer(wrong)).status_code == 401

    def test_it_ends_when_it_expires_and_its_name_is_free_again(
        self, line: Line, client: FlaskClient, database: Database
    ) -> None:
        token = line("make", "ci", "--scope", "read", "--expires", "90d")
        assert client.get("/api/v1/tasks", headers=bearer(token)).status_code == 200
        sql(database, "UPDATE api_keys SET expires_at = now()")
        assert client.get("/api/v1/tasks", headers=bearer(token)).status_code == 401
        line("make", "ci", "--scope", "read")

    def test_an_expiry_is_kept_without_asking_again(
        self, line: Line, app: Flask, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token = line("make", "ci", "--scope", "read", "--expires", "1m")
        ring = Keyring(line.configured, database)
        assert ring.find(token)
        monkeypatch.setattr(access, "_FRESH_SECONDS", 1e9)
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 61)
        assert ring.find(token) is None

    def test_a_replaced_key_works_for_the_overlap_only(
        self, line: Line, client: FlaskClient, database: Database
    ) -> None:
        old = line("make", "ci", "--scope", "submit", "--expires", "90d")
        new = line("rotate", "ci", "--overlap", "1d")
        for token in (old, new):
            assert client.post("/api/v1/tasks", json=TASK, headers=bearer(token)).status_code == 201
        sql(database, "UPDATE api_keys SET revoked_at = now() WHERE revoked_at > now()")
        assert client.get("/api/v1/tasks", headers=bearer(old)).status_code == 401
        newest = line("rotate", "ci")
        assert client.get("/api/v1/tasks", headers=bearer(new)).status_code == 401
        assert client.get("/api/v1/tasks", headers=bearer(newest)).status_code == 200
        lives = sql(database, "SELECT extract(day FROM expires_at - created_at)::int AS days FROM api_keys")
        assert [row["days"] for row in lives] == [90, 90, 90]

    def test_revoking_ends_a_replaced_key_too(self, line: Line, client: FlaskClient) -> None:
        old = line("make", "ci", "--scope", "read")
        line("rotate", "ci", "--overlap", "1d")
        line("revoke", "ci")
        assert client.get("/api/v1/tasks", headers=bearer(old)).status_code == 401

    def test_its_use_is_noted_once_a_minute_and_not_in_the_way(
        self, line: Line, app: Flask, client: FlaskClient, database: Database
    ) -> None:
        token = line("make", "ci", "--scope", "read")
        client.get("/api/v1/tasks", headers=bearer(token))
        look = "SELECT last_used_at AS at FROM api_keys"
        wait_until(lambda: sql(database, look)[0]["at"], "the use is noted")
        first = sql(database, look)[0]["at"]
        database.all("note_key_used", {"id": 1})
        assert sql(database, look)[0]["at"] == first
        sql(database, "UPDATE api_keys SET last_used_at = now() - interval '2 minutes'")
        services.get().keyring._known.noted.clear()
        client.get("/api/v1/tasks", headers=bearer(token))
        wait_until(lambda: sql(database, look)[0]["at"] > first, "the use is noted again")

    def test_keys_from_the_settings_go_on_working_beside_them(self, line: Line, configured: Settings) -> None:
        token = line("make", "ci", "--scope", "read")
        with serving(replace(configured, api_keys=(GIVEN,))) as app:
            client = app.test_client()
            assert client.get("/api/v1/tasks", headers=bearer(GIVEN.secret)).status_code == 200
            assert client.get("/api/v1/tasks", headers=bearer(token)).status_code == 200

    def test_basic_needs_the_name_as_well(self, line: Line, configured: Settings) -> None:
        token = line("make", "ci", "--scope", "read")
        with serving(replace(configured, api_keys=(GIVEN,))) as app:
            client = app.test_client()
            for name, secret, status in (
                ("ci", token, 200), ("console", token, 401), ("", token, 401),
                ("console", GIVEN.secret, 200), ("ci", GIVEN.secret, 401),
            ):  # fmt: skip
                assert client.get("/api/v1/tasks", auth=(name, secret)).status_code == status


class TestWithoutPostgres:
    def test_an_unknown_key_is_503_and_nothing_is_open(self, configured: Settings) -> None:
        with serving(replace(configured, database_url=AWAY)) as app:
            client = app.test_client()
            for headers in ({}, bearer(access.new_token()[0])):
                answer = client.get("/api/v1/task-types", headers=headers)
                assert answer.status_code == 503
                assert answer.headers["Retry-After"]
            assert client.get("/api/v1/task-types", headers=bearer("nonsense")).status_code == 503
            assert client.get("/login").status_code == 503
            assert client.get("/api/v1/health").status_code == 200
        with serving(replace(configured, database_url=AWAY, api_keys=(GIVEN,))) as app:
            client = app.test_client()
            assert client.get("/api/v1/task-types", headers=bearer(GIVEN.secret)).status_code == 200
            assert client.get("/api/v1/task-types", headers=bearer("nonsense")).status_code == 401
            assert client.get("/api/v1/task-types", headers=bearer(access.new_token()[0])).status_code == 503

    def test_a_known_key_goes_on_and_the_outage_is_asked_about_once(
        self, line: Line, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token = line("make", "ci", "--scope", "read")
        ring = Keyring(line.configured, database)
        assert ring.find(token)
        asked = []

        def away(*_: Any) -> Any:
            asked.append(1)
            raise Unavailable("away")

        monkeypatch.setattr(database, "all", away)
        assert ring.find(token)
        monkeypatch.setattr(access, "_FRESH_SECONDS", 60.0)
        asked.clear()
        for _ in range(5):
            assert ring.find(token)
            with pytest.raises(Unavailable):
                ring.find(access.new_token()[0])
        assert not asked

    def test_only_who_asks_waits_for_a_server_that_hangs(
        self, line: Line, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token = line("make", "ci", "--scope", "read")
        ring = Keyring(line.configured, database)
        assert ring.find(token)
        monkeypatch.setattr(access, "_PATIENCE_SECONDS", 0.01)
        with ring._lock:
            assert ring.find(token)
            with pytest.raises(Unavailable):
                ring.find(access.new_token()[0])
        assert ring.find(access.new_token()[0]) is None


class TestExposure:
    @pytest.mark.parametrize("change", [{"host": "0.0.0.0"}, {"app_env": "production"}, {"host": "example.com"}])
    def test_an_open_service_is_kept_from_others_until_there_is_a_key(
        self, change: dict[str, Any], configured: Settings, line: Line
    ) -> None:
        exposed = replace(configured, **change)
        with pytest.raises(SettingsError, match=r"jobs\.keys make"):
            create_app(exposed)
        access.check_exposure(replace(exposed, api_keys=(GIVEN,)))
        line("make", "ci", "--scope", "read")
        with serving(exposed) as app:
            assert app.test_client().get("/api/v1/tasks").status_code == 401
        line("revoke", "ci")
        access.check_exposure(exposed)

    def test_loopback_may_be_open(self, configured: Settings) -> None:
        for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
            access.check_exposure(replace(configured, host=host, database_url=AWAY))

    def test_with_its_keys_unknown_it_does_not_start_and_however_started_it_lets_nobody_in(
        self, configured: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        exposed = replace(configured, host="0.0.0.0")
        with pytest.raises(SettingsError, match="cannot be asked"):
            access.check_exposure(replace(exposed, database_url=AWAY))
        monkeypatch.setattr(access, "check_exposure", lambda _: None)
        with serving(exposed) as app:
            assert app.test_client().get("/api/v1/tasks").status_code == 401


class TestCommandLine:
    def test_wrong_arguments_get_one_line_and_2(self, line: Line) -> None:
        for arguments in [
            (),
            ("grow",),
            ("make",),
            ("make", "ci"),
            ("make", "ci", "--scope", "root"),
            ("make", "ci", "--scope", "read", "--expires", "soon"),
            ("make", "ci", "--scope", "read", "--expires", "0d"),
            ("make", "a:b", "--scope", "read"),
            ("make", "cli", "--scope", "read"),
            ("make", "x" * 65, "--scope", "read"),
            ("rotate",),
            ("list", "more"),
        ]:
            line(*arguments, code=2)
            assert line.said.startswith("pressroom: ")
            assert line.said.count("\n") == 1

    @pytest.mark.parametrize(
        "arguments",
        [("make", "ci", "--scope", "read"), ("revoke", "nobody"), ("rotate", "nobody"), ("revoke", "console")],
    )
    def test_what_cannot_be_done_gets_one_line_and_1(self, arguments: tuple[str, ...], line: Line) -> None:
        line("make", "ci", "--scope", "read")
        line.configured = replace(line.configured, api_keys=(GIVEN,))
        line(*arguments, code=1)
        assert line.said.startswith("pressroom: ")
        assert line.said.count("\n") == 1
        assert len(line("list").splitlines()) == 3

    def test_a_database_that_is_away_gets_one_line_and_1(self, line: Line) -> None:
        line.configured = replace(line.configured, database_url="postgresql://u:verysecret@127.0.0.1:1/x")
        line("list", code=1)
        assert line.said.count("\n") == 1
        assert "verysecret" not in line.said

    def test_the_list_shows_all_keys_and_no_secret(self, line: Line) -> None:
        line.configured = replace(line.configured, api_keys=(GIVEN,))
        tokens = [line("make", "ci", "--scope", "read"), line("rotate", "ci", "--overlap", "1d")]
        line("revoke", tokens[0])
        assert tokens[0].split("_")[2] not in line.said
        shown = line("list")
        assert [row.split()[:3] for row in shown.splitlines()[1:]] == [
            ["console", "API_KEYS", "admin"],
            ["ci", tokens[0][:15], "read"],
            ["ci", tokens[1][:15], "read"],
        ]
        assert "revoked" in shown
        assert not any(token.split("_")[2] in shown for token in tokens)

    def test_changes_of_keys_are_on_record(self, line: Line, database: Database) -> None:
        token = line("make", "ci", "--scope", "read")
        line("rotate", "ci")
        line("revoke", "ci")
        line("revoke", "ci", code=1)
        done = [("cli", f"keys {what}", "DONE", None) for what in ("make", "rotate", "revoke")]
        assert acts(database) == done
        (first, *_) = sql(database, "SELECT object FROM audit ORDER BY id")
        assert first["object"] == f"ci {token.rpartition('_')[0]}"
