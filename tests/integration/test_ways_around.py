"""What an attacker tries when the door is shut, and what answers tell browsers."""

import re
from pathlib import Path

import limits
import pytest
from flask.testing import FlaskClient

from jobs import access
from jobs.secrets import clean
from tests.support.access import Line, bearer

TASK = {"prompt": "p", "model": "m"}
_SPELLINGS = (
"/api/v1/health/../tasks", "/api/v1/health%2f..%2ftasks", "/api/v1//tasks", "//api/v1/tasks", "/rq/../rq/",
"//rq", "/rq%2f", "/RQ", "/rq/;/", "/static/../api/v1/tasks", "/static/..%2f..%2fauth.py", "/health/workers",
"/login/../api/v1/tasks", "/rq/0/view/job/1", "/rq/static/css/main.css", "/docs/assets/index.html", "/nope",
"/api/v1/audit", "/metrics", "/openapi.json",
)  # fmt: skip


class TestWaysAround:
    """What an attacker tries when the door is shut."""

    @pytest.fixture
    def shut(self, line: Line, client: FlaskClient) -> FlaskClient:
        line("make", "ada", "--scope", "admin")
        return client

    def test_no_other_spelling_of_a_path_gets_in(self, shut: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("api.limits._FAILURES", limits.parse("1000000/minute"))
        for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "TRACE", "BREW"):
            for path in _SPELLINGS:
                answer = shut.open(path, method=method, headers={"Accept": "application/json"})
                if answer.status_code == 308:  # slashes were put right
                    answer = shut.open(answer.headers["Location"], method=method)
                # Files for the login page are open to all; nothing else is found from there.
                open_to_all = (200, 404, 405) if path.startswith("/static/") else ()
                assert answer.status_code in (401, *open_to_all), (method, path)
                assert answer.status_code != 200 or method == "OPTIONS"

    @pytest.mark.parametrize("origin", ["http://[x", "http://[::1", "//[", "http://]"])
    def test_an_origin_that_is_none_is_elsewhere(self, origin: str, shut: FlaskClient) -> None:
        for path in ("/login", "/api/v1/tasks"):
            assert shut.post(path, headers={"Origin": origin}).status_code == 403

    def test_a_host_that_is_none_is_not_this_machine(self, client: FlaskClient) -> None:
        for host in ("[", "[::1", "[x]"):
            assert client.get("/api/v1/tasks", headers={"Host": host}).status_code in (400, 403)

    def test_the_method_is_what_it_says(self, line: Line, client: FlaskClient) -> None:
        token = line("make", "eve", "--scope", "read")
        for header in ("X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"):
            answer = client.get("/api/v1/accounts", headers={**bearer(token), header: "POST"})
            assert answer.status_code == 200
        assert client.get("/api/v1/tasks?_method=DELETE", headers=bearer(token)).status_code == 422

    @pytest.mark.parametrize("kind", ["cleanup", "database_backup"])
    def test_what_removes_or_copies_everything_is_for_administrators(
        self, kind: str, line: Line, client: FlaskClient
    ) -> None:
        task = {"task_type": kind}
        for scope, status in (("submit", 403), ("admin", 201)):
            headers = bearer(line("make", scope, "--scope", scope))
            assert client.post("/api/v1/tasks", json=task, headers=headers).status_code == status
            batch = client.post("/api/v1/tasks/batch", json={"tasks": [TASK, task]}, headers=headers)
            assert batch.status_code == status

    @pytest.mark.parametrize("kind", ["cleanup", "database_backup"])
    def test_nor_may_others_stop_or_repeat_it(self, kind: str, line: Line, client: FlaskClient) -> None:
        keys = {scope: bearer(line("make", scope, "--scope", scope)) for scope in ("submit", "admin")}
        task = {"task_type": kind, "delay_seconds": 3600}
        rooms = [
            f"tasks/{client.post('/api/v1/tasks', json=task, headers=keys['admin']).get_json()['id']}",
            "batches/{id}".format(
                **client.post("/api/v1/tasks/batch", json={"tasks": [task, TASK]}, headers=keys["admin"]).get_json()
            ),
        ]
        for room in rooms:
            for act in ("cancel", "retry"):
                assert client.post(f"/api/v1/{room}/{act}", headers=keys["submit"]).status_code == 403
                assert client.post(f"/api/v1/{room}/{act}", headers=keys["admin"]).status_code in (200, 409)

    @pytest.mark.parametrize("path", ["/api/v1/callbacks/secret", "/api/v1/audit", "/rq/", "/rq/0/data/workers.json"])
    def test_whoever_may_only_look_does_not_see_secrets(self, path: str, line: Line, client: FlaskClient) -> None:
        for scope, status in (("read", 403), ("submit", 403), ("admin", 200)):
            token = line("make", scope, "--scope", scope)
            assert client.get(path, headers=bearer(token)).status_code == status
            assert client.head(path, headers=bearer(token)).status_code == status

    def test_tokens_in_callback_addresses_are_not_shown(self, client: FlaskClient) -> None:
        url = "https://hooks.example.com/hook?token=verysecret"
        task = client.post("/api/v1/tasks", json={**TASK, "callback_url": url})
        batch = client.post("/api/v1/tasks/batch", json={"tasks": [TASK], "callback_url": url})
        client.post(f"/api/v1/tasks/{task.get_json()['id']}/cancel")
        for answer in (task, batch, client.get("/api/v1/tasks"), client.get("/api/v1/callbacks")):
            text = answer.get_data(as_text=True)
            assert "https://hooks.example.com/hook?..." in text
            assert "verysecret" not in text

    def test_a_token_in_a_log_line_is_hidden(self) -> None:
        token, prefix = access.new_token()
        said = clean(f"GET /x?key={token} failed")
        assert token not in said
        assert prefix in said


class TestHeaders:
    @pytest.mark.parametrize("path", ["/", "/docs", "/login", "/rq/", "/rq/0/view/jobs", "/nope", "/api/v1/tasks"])
    def test_every_answer_forbids_what_pages_do_not_need(self, path: str, line: Line, client: FlaskClient) -> None:
        token = line("make", "ada", "--scope", "admin")
        for headers in (bearer(token), {}):
            answer = client.get(path, headers={"Accept": "text/html", **headers})
            policy = answer.headers["Content-Security-Policy"]
            assert "unsafe" not in policy
            for part in ("default-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "object-src 'none'"):
                assert part in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Referrer-Policy"] == "same-origin"
            assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert answer.headers["Cache-Control"] == "no-store"
            assert "Server" not in answer.headers
            assert "Strict-Transport-Security" not in answer.headers

    def test_browsers_are_held_to_tls_where_there_is_tls(self, client: FlaskClient) -> None:
        answer = client.get("/api/v1/health", base_url="https://localhost")
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"

    def test_static_files_may_be_kept(self, client: FlaskClient) -> None:
        with client.get("/static/login.css") as answer:
            assert "no-store" not in answer.headers["Cache-Control"]

    def test_each_answer_has_a_nonce_of_its_own_and_all_scripts_have_it(self, client: FlaskClient) -> None:
        seen = set()
        for _ in range(2):
            answer = client.get("/rq/")
            page, policy = answer.get_data(as_text=True), answer.headers["Content-Security-Policy"]
            nonce = policy.partition("'nonce-")[2].partition("'")[0]
            assert len(nonce) >= 20
            seen.add(nonce)
            inline = [tag for tag in page.split("<script")[1:] if "src=" not in tag.partition(">")[0]]
            templates = [tag for tag in inline if 'type="text/template"' in tag]
            assert len(inline) > len(templates)
            assert all(f'nonce="{nonce}"' in tag for tag in inline if tag not in templates)
        assert len(seen) == 2

    def test_the_dashboards_pages_have_nothing_to_compile_and_no_styles(self, client: FlaskClient) -> None:
        task = client.post("/api/v1/tasks", json=TASK).get_json()
        job = f"/rq/0/view/job/{task['id']}"
        failed = "/rq/0/view/jobs/default/failed/8/asc/1"
        for path in ("/rq/", "/rq/0/view/workers", "/rq/0/view/jobs", failed, job):
            page = client.get(path).get_data(as_text=True)
            assert "<%" not in page
            assert "style=" not in page

    def test_paths_are_not_reflected(self, client: FlaskClient) -> None:
        for path in ["/<script>alert(1)</script>", "/rq/<b>x</b>", "/api/v1/tasks/<script>"]:
            answer = client.get(path, headers={"Accept": "text/html"})
            assert answer.status_code == 404
            # People who mistyped an address get a page, which names it in a link.
            assert answer.mimetype == ("application/json" if path.startswith("/api") else "text/html")
            assert "<script>" not in answer.get_data(as_text=True)


def test_no_template_runs_a_script_of_its_own() -> None:
    for path in (Path(__file__).parents[2] / "api" / "templates").rglob("*.html"):
        text = path.read_text()
        assert "style=" not in text
        assert "<style" not in text
        assert not re.search(r"\son[a-z]+=[\"']", text)
        assert all("src=" in tag.partition(">")[0] for tag in text.split("<script")[1:])
