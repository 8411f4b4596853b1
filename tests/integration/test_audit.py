"""What administrators did is on record, with how it ended, and without anything secret."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from jobs.store.database import Database
from jobs.store.queries import QUERIES
from tests.support.access import OWN, Line, acts, bearer, form_token, log_in, sql

TASK = {"prompt": "p", "model": "m"}


class TestAudit:
    @pytest.fixture
    def token(self, line: Line) -> str:
        return line("make", "ada", "--scope", "admin")

    def test_administrative_acts_are_on_record_with_how_they_ended(
        self, token: str, client: FlaskClient, database: Database
    ) -> None:
        headers = {**bearer(token), "X-Request-ID": "mine-1"}
        made = client.post("/api/v1/accounts", json={"name": "secretname"}, headers=headers)
        number = made.get_json()["id"]
        client.patch(f"/api/v1/accounts/{number}", json={"nme": "x"}, headers=headers)
        client.delete("/api/v1/accounts/999", headers=headers)
        client.get("/api/v1/callbacks/secret", headers=headers)
        client.get("/api/v1/accounts", headers=headers)
        client.post("/api/v1/tasks", json=TASK, headers=headers)
        client.post("/rq/job/1/requeue", headers=headers)
        client.post("/nope", headers=headers)
        rows = client.get("/api/v1/audit?who=ada&sort=id", headers=headers).get_json()
        assert [(row["action"], row["object"], row["outcome"], row["status_code"]) for row in rows] == [
            ("POST /api/v1/accounts", f"/api/v1/accounts/{number}", "DONE", 201),
            ("PATCH /api/v1/accounts/<id:account_id>", f"account_id={number}", "REFUSED", 422),
            ("DELETE /api/v1/accounts/<id:account_id>", "account_id=999", "REFUSED", 404),
            ("GET /api/v1/callbacks/secret", "", "DONE", 200),
            ("POST /rq/job/<job_id>/requeue", "job_id=1", "REFUSED", 409),
        ]
        assert {(row["request_id"], row["client"], row["key_prefix"]) for row in rows} == {
            ("mine-1", "127.0.0.1", token.split("_")[1])
        }
        (whole,) = sql(database, "SELECT string_agg(a::text, ' ') AS text FROM audit AS a")
        assert "secretname" not in whole["text"]
        assert token.split("_")[2] not in whole["text"]
        assert "whsec_" not in whole["text"]

    def test_what_a_path_holds_is_on_record_as_far_as_it_can_be_stored(
        self, token: str, client: FlaskClient, database: Database
    ) -> None:
        assert client.post("/rq/job/a%00b/requeue", headers=bearer(token)).status_code == 404
        assert client.post("/rq/job/%ED%A0%80/requeue", headers=bearer(token)).status_code == 404
        first, second = sql(database, "SELECT object, outcome FROM audit WHERE who = 'ada' ORDER BY id")
        assert first == {"object": "job_id=a\ufffdb", "outcome": "REFUSED"}
        assert second["outcome"] == "REFUSED"

    def test_an_act_whose_process_dies_is_on_record(
        self, token: str, client: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Died(BaseException):
            pass

        def dies(*_: Any) -> None:
            raise Died

        monkeypatch.setattr("api.accounts.shown", dies)
        with pytest.raises(Died):
            client.post("/api/v1/accounts", json={"name": "x"}, headers=bearer(token))
        assert len(sql(database, "SELECT id FROM accounts")) == 1
        assert acts(database)[-1] == ("ada", "POST /api/v1/accounts", "ATTEMPTED", None)

    def test_what_cannot_be_on_record_is_not_done(self, token: str, client: FlaskClient, database: Database) -> None:
        sql(database, "ALTER TABLE audit RENAME TO gone")
        assert client.post("/api/v1/accounts", json={"name": "x"}, headers=bearer(token)).status_code == 503
        assert sql(database, "SELECT id FROM accounts") == []

    def test_an_outcome_that_cannot_be_written_does_not_change_the_answer(
        self, token: str, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(QUERIES, "audit_outcome", "UPDATE gone SET x = 1")
        assert client.post("/api/v1/accounts", json={"name": "x"}, headers=bearer(token)).status_code == 201

    def test_logins_and_logouts_are_on_record(self, token: str, client: FlaskClient, database: Database) -> None:
        log_in(client, "wrong")
        log_in(client, token)
        form = form_token(client)
        client.post("/logout", data={"csrf": form}, headers=OWN)
        assert acts(database)[1:] == [
            ("", "POST /login", "REFUSED", 401),
            ("ada", "POST /login", "DONE", 303),
            ("ada", "POST /logout", "DONE", 303),
        ]

    def test_an_open_service_keeps_a_record_too(self, client: FlaskClient) -> None:
        client.post("/api/v1/accounts", json={"name": "x"})
        (row,) = client.get("/api/v1/audit?outcome=DONE").get_json()
        assert (row["who"], row["key_prefix"]) == ("open", "")

    def test_it_is_paged_and_filtered_like_other_lists(self, client: FlaskClient) -> None:
        for _ in range(3):
            client.post("/api/v1/accounts", json={"name": "x"})
        client.delete("/api/v1/accounts/999")
        page = client.get("/api/v1/audit?limit=2&action=POST /api/v1/accounts")
        assert (page.headers["X-Total-Count"], len(page.get_json())) == ("3", 2)
        assert 'rel="next"' in page.headers["Link"]
        assert client.get("/api/v1/audit?created_after=2100-01-01T00:00:00Z").get_json() == []
        assert client.get("/api/v1/audit?outcome=MAYBE").status_code == 422
