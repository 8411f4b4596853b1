"""People log in with a key; a session does what its key may, and other sites can do nothing with it."""

from dataclasses import replace

import pytest
from flask import Flask
from flask.testing import FlaskClient

from jobs.settings import Settings
from jobs.store.database import Database
from tests.support.access import GIVEN, OWN, Line, acts, bearer, form_token, log_in, serving, sql

TASK = {"prompt": "p", "model": "m"}


class TestSessions:
    @pytest.fixture
    def token(self, line: Line) -> str:
        return line("make", "ada", "--scope", "admin")

    def test_a_person_is_led_to_the_form_and_back(self, token: str, client: FlaskClient) -> None:
        answer = client.get("/docs?x=1", headers={"Accept": "text/html"})
        assert (answer.status_code, answer.headers["Location"]) == (303, "/login?next=/docs?x%3D1")
        page = client.get(answer.headers["Location"])
        assert 'value="/docs?x=1"' in page.get_data(as_text=True)
        answer = log_in(client, token, next="/docs?x=1")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/docs?x=1")
        assert client.get("/docs").status_code == 200
        assert client.get("/api/v1/tasks").status_code == 200
        assert "ada" in client.get("/login").get_data(as_text=True)

    def test_programs_get_401_where_people_are_led(self, token: str, client: FlaskClient) -> None:
        for path in ["/", "/docs", "/rq", "/rq/", "/rq/0/view/workers", "/api/v1/tasks/1/profile"]:
            assert client.get(path, headers={"Accept": "text/html,*/*;q=0.8"}).status_code in (303, 308)
            for accept in ("*/*", "application/json"):
                answer = client.get(path, headers={"Accept": accept}, follow_redirects=True)
                assert answer.status_code == 401
                assert answer.mimetype == "application/json"
            answer = client.get("/api/v1/tasks", headers={"Accept": "text/html"})
            assert answer.status_code == 401

    def test_the_cookie_is_kept_from_scripts_and_other_sites(self, token: str, client: FlaskClient) -> None:
        plain = log_in(client, token).headers["Set-Cookie"]
        assert plain.startswith("pressroom=")
        for part in ("HttpOnly", "SameSite=Lax", "Max-Age=43200", "Path=/"):
            assert part in plain
        assert "Secure" not in plain
        secure = client.post(
            "/login", data={"key": token}, headers={"Origin": "https://localhost"}, base_url="https://localhost"
        )
        assert secure.headers["Set-Cookie"].startswith("__Host-pressroom=")
        assert "Secure" in secure.headers["Set-Cookie"]
        assert token.split("_")[2] not in plain

    @pytest.mark.parametrize("end", ["revoke", "expire key", "expire session", "log out"])
    def test_it_ends_with_its_key_its_time_or_the_logout(
        self, end: str, token: str, line: Line, client: FlaskClient, database: Database
    ) -> None:
        log_in(client, token)
        cookie = client.get_cookie("pressroom")
        assert cookie
        assert client.get("/api/v1/tasks").status_code == 200
        if end == "revoke":
            line("revoke", "ada")
        elif end == "expire key":
            sql(database, "UPDATE api_keys SET expires_at = now()")
        elif end == "expire session":
            sql(database, "UPDATE sessions SET expires_at = now()")
        else:
            form = form_token(client)
            assert client.post("/logout", data={"csrf": form}, headers=OWN).status_code == 303
        assert client.post("/logout", headers=OWN).headers["Location"] == "/login"
        # Also for whoever kept the cookie.
        client.set_cookie("pressroom", cookie.value)
        assert client.get("/api/v1/tasks").status_code == 401

    def test_a_changed_secret_in_the_settings_ends_it(self, configured: Settings) -> None:
        with serving(replace(configured, api_keys=(GIVEN,))) as app:
            client = app.test_client()
            assert log_in(client, GIVEN.secret).status_code == 303
            assert client.get("/api/v1/tasks").status_code == 200
            cookie = client.get_cookie("pressroom")
        assert cookie
        for changed, status in ((GIVEN, 200), (replace(GIVEN, secret="another-secret-0123456"), 401)):
            with serving(replace(configured, api_keys=(changed,))) as app:
                client = app.test_client()
                client.set_cookie("pressroom", cookie.value)
                assert client.get("/api/v1/tasks").status_code == status

    def test_every_login_gets_a_new_one_and_ends_the_last(self, token: str, client: FlaskClient) -> None:
        client.set_cookie("pressroom", "chosen-by-somebody-else")
        log_in(client, token)
        first = client.get_cookie("pressroom")
        assert first
        assert first.value != "chosen-by-somebody-else"
        log_in(client, token)
        client.set_cookie("pressroom", first.value)
        assert client.get("/api/v1/tasks").status_code == 401

    def test_forged_cookies_are_nothing(self, token: str, client: FlaskClient) -> None:
        for value in ["", "x", "A" * 43, "\udcff", "a" * 4000, "' OR 1=1 --"]:
            answer = client.get(
                "/api/v1/tasks", headers={"Cookie": f"pressroom={value}".encode("utf-8", "replace").decode()}
            )
            assert answer.status_code == 401

    def test_a_digest_read_from_the_database_is_no_cookie(
        self, token: str, client: FlaskClient, database: Database
    ) -> None:
        log_in(client, token)
        (row,) = sql(database, "SELECT encode(digest, 'hex') AS digest FROM sessions")
        client.set_cookie("pressroom", row["digest"])
        assert client.get("/api/v1/tasks").status_code == 401

    @pytest.mark.parametrize("key", ["", "nonsense", "pr_000000000000_" + "0" * 64, "expired", "revoked"])
    def test_a_login_that_fails_says_the_same_whatever_was_wrong(
        self, key: str, token: str, line: Line, client: FlaskClient, database: Database
    ) -> None:
        if key in ("expired", "revoked"):
            given = line("make", "bob", "--scope", "read")
            ends = "expires_at" if key == "expired" else "revoked_at"
            sql(database, f"UPDATE api_keys SET {ends} = now() WHERE name = 'bob'")
        else:
            given = key
        answer = log_in(client, given)
        assert answer.status_code == 401
        assert answer.headers.get("Set-Cookie") is None
        assert "This key is not valid." in answer.get_data(as_text=True)
        assert given == "" or given not in answer.get_data(as_text=True)
        assert acts(database)[-1] == ("", "POST /login", "REFUSED", 401)

    def test_it_leads_to_own_paths_only(self, token: str, client: FlaskClient) -> None:
        for wanted in [
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "evil.example",
            "",
            " //evil.example",
            "/a\r\nX-Evil: 1",
            "/" + "a" * 3000,
        ]:
            page = client.get("/login", query_string={"next": wanted}).get_data(as_text=True)
            assert 'name="next" value="/"' in page
            answer = log_in(client, token, next=wanted)
            assert answer.headers["Location"] == "/"
            assert "X-Evil" not in answer.headers

    def test_what_comes_back_in_the_page_is_text(self, token: str, client: FlaskClient) -> None:
        page = client.get("/login", query_string={"next": '/"><script>alert(1)</script>'}).get_data(as_text=True)
        assert "<script" not in page

    def test_a_session_changes_nothing_unless_our_own_page_asks(self, token: str, client: FlaskClient) -> None:
        for headers, status in [
            (OWN, 201),
            ({"Origin": "http://localhost"}, 201),
            ({"Sec-Fetch-Site": "same-origin"}, 201),
            ({}, 403),
            ({"Sec-Fetch-Site": "none"}, 403),
            ({"Sec-Fetch-Site": "same-site"}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Origin": "http://localhost.evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"}, 403),
            ({"Referer": "http://localhost/"}, 403),
        ]:
            log_in(client, token)
            assert client.post("/api/v1/tasks", json=TASK, headers=headers).status_code == status

    def test_forms_need_the_sessions_own_token(self, token: str, client: FlaskClient, app: Flask) -> None:
        other = app.test_client()
        log_in(other, token)
        foreign = form_token(other)
        log_in(client, token)
        for form in ({}, {"csrf": ""}, {"csrf": "x"}, {"csrf": foreign}):
            assert client.post("/logout", data=form or {"a": "b"}, headers=OWN).status_code == 403
            assert client.post("/rq/job/1/requeue", data=form or {"a": "b"}, headers=OWN).status_code == 403
        assert client.get("/api/v1/tasks").status_code == 200

    def test_nobody_is_logged_in_by_another_sites_form(self, token: str, client: FlaskClient) -> None:
        for headers in [{}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}]:
            answer = client.post("/login", data={"key": token}, headers=headers)
            assert answer.status_code == 403
            assert "Set-Cookie" not in answer.headers
            said = "header Origin or Sec-Fetch-Site is missing" if not headers else "pages of other sites"
            assert said in answer.get_json()["message"]

    def test_the_first_tasks_example_has_a_key_where_one_is_needed(self, token: str, client: FlaskClient) -> None:
        log_in(client, token)
        page = client.get("/tasks", headers={"Accept": "text/html"}).get_data(as_text=True)
        assert "-H 'Authorization: Bearer &lt;key&gt;' \\\n     -d '" in page

    def test_a_key_that_is_sent_goes_before_the_session(self, token: str, client: FlaskClient) -> None:
        log_in(client, token)
        assert client.get("/api/v1/tasks", headers=bearer("wrong")).status_code == 401
        assert client.get("/api/v1/tasks", headers={"Authorization": "Digest x"}).status_code == 401

    def test_scripts_whose_session_ended_get_no_password_box(self, token: str, client: FlaskClient) -> None:
        by_script = client.get("/api/v1/tasks", headers={"Sec-Fetch-Mode": "cors"}).headers["WWW-Authenticate"]
        assert "Basic" not in by_script
        assert "Basic" in client.get("/api/v1/tasks").headers["WWW-Authenticate"]

    def test_while_it_is_open_there_is_nothing_to_log_in_to(self, client: FlaskClient) -> None:
        assert client.get("/login?next=/docs").headers["Location"] == "/docs"
        answer = log_in(client, "x", next="/docs")
        assert answer.headers["Location"] == "/docs"
        assert "Set-Cookie" not in answer.headers
