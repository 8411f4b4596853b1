"""The console's pages: text is text, scopes hold, every word has its translation, and what is away is told."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import limits
import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from jobs.setting_values import ApiKey
from jobs.settings import Settings
from jobs.store import listing
from jobs.store.database import Database
from tests.integration.test_content import content
from tests.support import hand
from tests.support.access import AWAY, OWN, bearer, log_in, serving, sql

_ROOT = Path(__file__).parents[2]
_HTML = {"Accept": "text/html"}
_EVIL = "<script>alert(1)</script>{{ 7*7 }}\"'>"
_PAGES = (
    "/", "/tasks", "/tasks/1", "/submit", "/submit/content_generation", "/review", "/review/1", "/schedules",
    "/schedules/1", "/schedules/new", "/schedules/1/edit", "/schedules/executions", "/trends", "/system",
    "/system/alerts", "/system/keys", "/system/audit",
)  # fmt: skip
_KEYS = tuple(ApiKey(scope, f"{scope}-secret-0123456", scope) for scope in ("read", "submit", "admin"))


def page(client: FlaskClient, path: str, status: int = 200, headers: dict[str, str] | None = None) -> str:
    """A page as a browser gets it."""
    answer = client.get(path, headers={**_HTML, **(headers or {})})
    assert answer.status_code == status, answer.get_data(as_text=True)
    assert answer.mimetype == "text/html"
    return answer.get_data(as_text=True)


def schedule(client: FlaskClient, **facts: Any) -> int:
    """A schedule's id."""
    wanted = {"name": "S", "task_type": "cleanup", "cron_expression": "0 8 * * *", **facts}
    answer = client.post("/api/v1/scheduler/tasks", json=wanted)
    assert answer.status_code == 201, answer.get_json()
    return int(answer.get_json()["id"])


@pytest.fixture
def locked(configured: Settings) -> Iterator[FlaskClient]:
    with serving(replace(configured, api_keys=_KEYS)) as app:
        yield app.test_client()


def test_a_browser_gets_the_console_and_a_program_the_index(client: FlaskClient) -> None:
    assert "<h1>Now</h1>" in page(client, "/")
    assert client.get("/").get_json()["name"] == "Pressroom"


def test_what_people_wrote_is_text(client: FlaskClient, database: Database) -> None:
    client.post("/api/v1/tasks", json={"prompt": _EVIL, "model": _EVIL, "metadata": {"x": _EVIL}})
    client.post("/api/v1/tasks", json={"prompt": "second", "model": "m"})
    hand.finish(database, 1, result={"text": _EVIL})
    schedule(client, name=_EVIL, description=_EVIL)
    content(client, database)
    sql(database, "UPDATE contents SET title = '<script>alert(1)</script>', body = '<img src=x onerror=alert(1)>'")
    for path in (*_PAGES, "/submit/text_generation?like=1", "/tasks?search=%3Cscript%3Ealert", "/nope/%3Cscript%3E"):
        said = page(client, path, 404 if "nope" in path else 200)
        assert "<script>alert" not in said, path
        assert "<img src=x" not in said, path
    assert "&lt;script&gt;alert(1)&lt;/script&gt;{{ 7*7 }}" in page(client, "/tasks/1")


def test_pages_carry_neither_scripts_nor_styles_of_their_own(client: FlaskClient, database: Database) -> None:
    schedule(client)
    content(client, database)
    for path in _PAGES:
        said = page(client, path)
        assert not re.search(r"<script(?! src=)|\sstyle=|\son[a-z]+=|<style", said), path
        assert "'unsafe" not in client.get(path, headers=_HTML).headers["Content-Security-Policy"]


class TestScopes:
    @pytest.mark.parametrize(
        ("scope", "path", "status"),
        [
            ("read", "/", 200),
            ("read", "/trends", 200),
            ("read", "/system", 200),
            ("read", "/submit", 403),
            ("read", "/schedules/new", 403),
            ("read", "/system/keys", 403),
            ("submit", "/submit", 200),
            ("submit", "/submit/database_backup", 404),
            ("submit", "/system/audit", 403),
            ("admin", "/system/keys", 200),
            ("admin", "/schedules/new", 200),
            ("admin", "/submit/database_backup", 200),
        ],
    )
    def test_pages_are_for_those_who_may(self, scope: str, path: str, status: int, locked: FlaskClient) -> None:
        said = page(locked, path, status, headers=bearer(f"{scope}-secret-0123456"))
        assert ("Your key may not do this" in said) == (status == 403)

    def test_nobody_sees_a_button_that_is_refused(self, locked: FlaskClient, database: Database) -> None:
        admin, read = bearer("admin-secret-0123456"), bearer("read-secret-0123456")
        locked.post("/api/v1/tasks", json={"prompt": "p", "model": "m"}, headers=admin)
        wanted = {"name": "S", "task_type": "cleanup", "cron_expression": "0 8 * * *"}
        locked.post("/api/v1/scheduler/tasks", json=wanted, headers=admin)
        for path in ("/", "/tasks", "/tasks/1", "/review", "/schedules", "/schedules/1", "/system"):
            assert "data-call=" not in page(locked, path, headers=read)
            assert "/submit" not in page(locked, path, headers=read)
        assert "data-call=" in page(locked, "/tasks/1", headers=admin)
        assert "data-call=" in page(locked, "/schedules/1", headers=admin)

    def test_a_person_without_a_session_is_led_to_the_login(self, locked: FlaskClient) -> None:
        answer = locked.get("/review", headers=_HTML)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/login?next=/review")
        assert locked.get("/review").status_code == 401

    def test_the_page_of_keys_has_no_secret(self, locked: FlaskClient) -> None:
        said = page(locked, "/system/keys", headers=bearer("admin-secret-0123456"))
        assert "admin" in said
        assert "secret" not in said


class TestLogin:
    def refused(self, answer: TestResponse, status: int, said: str) -> None:
        """What a person is told is a page."""
        assert (answer.status_code, answer.mimetype) == (status, "text/html")
        assert f"<h1>{said}</h1>" in answer.get_data(as_text=True)

    def test_forms_that_are_refused_are_answered_with_pages(self, locked: FlaskClient) -> None:
        for headers in ({}, {"Origin": "http://evil.example"}):
            answer = locked.post("/login", data={"key": "x"}, headers={**_HTML, **headers})
            self.refused(answer, 403, "This form was not taken")
            assert 'href="/login?next=/"' in answer.get_data(as_text=True)
        log_in(locked, "admin-secret-0123456")
        stale = locked.post("/logout", data={"csrf": "of yesterday"}, headers={**_HTML, **OWN})
        self.refused(stale, 403, "This form was not taken")

    def test_who_tries_too_often_is_told_on_a_page(self, locked: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("api.limits._FAILURES", limits.parse("2/minute"))
        assert [log_in(locked, "wrong").status_code for _ in range(2)] == [401, 401]
        answer = locked.post("/login", data={"key": "wrong"}, headers={**_HTML, **OWN})
        self.refused(answer, 429, "Too many requests")

    def test_the_login_says_when_the_database_is_away(self, configured: Settings) -> None:
        with serving(replace(configured, database_url=AWAY, api_keys=_KEYS)) as app:
            client = app.test_client()
            client.set_cookie("pressroom", "A" * 43)
            self.refused(client.get("/login", headers=_HTML), 503, "Not reachable right now")
            answer = client.post("/login", data={"key": "wrong"}, headers={**_HTML, **OWN})
            self.refused(answer, 503, "Not reachable right now")

    def test_who_has_no_session_is_led_to_the_login_from_an_unknown_address_too(self, locked: FlaskClient) -> None:
        answer = locked.get("/nope", headers=_HTML)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/login?next=/nope")


class TestLanguages:
    def test_every_word_is_translated_with_what_it_names(self) -> None:
        methods = [("**/console/**.html", "jinja2"), ("**/login.html", "jinja2"), ("**.py", "python")]
        found = set()
        for directory in ("api/console", "api/templates"):
            keywords = {"_": None, "_noted": None, "ngettext": (1, 2)}
            for _file, _line, said, _comments, _context in extract_from_dir(
                _ROOT / directory, methods, keywords=keywords
            ):
                found.add(said)
        with (_ROOT / "api/translations/zh/LC_MESSAGES/console.po").open("rb") as file:
            known = {message.id: message for message in read_po(file) if message.id}
        assert found == set(known), "run `make translations`"
        for message in known.values():
            texts = [message.string] if isinstance(message.string, str) else list(message.string or ())
            ids = [message.id] if isinstance(message.id, str) else list(message.id)
            for text in texts:
                assert text, f"{message.id} is not translated"
                assert set(re.findall(r"%\(\w+\)s|\{\w+\}", text)) == set(re.findall(r"%\(\w+\)s|\{\w+\}", ids[-1]))

    def test_the_browser_says_which_and_the_cookie_has_the_last_word(self, client: FlaskClient) -> None:
        chinese = {"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.8"}
        assert '<html lang="zh-Hans">' in page(client, "/", headers=chinese)
        assert '<html lang="en">' in page(client, "/", headers={"Accept-Language": "fr"})
        answer = client.get("/language/en?next=/tasks", headers=chinese)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/tasks")
        assert '<html lang="en">' in page(client, "/", headers=chinese)
        assert client.get("/language/zh?next=//evil.example").headers["Location"] == "/"
        assert client.get("/language/xx").status_code == 404

    def test_the_compiled_words_are_those_that_are_written(self, client: FlaskClient) -> None:
        said = page(client, "/system", headers={"Accept-Language": "zh"})
        assert "健康状况" in said
        assert "Health<" not in said

    def test_what_happened_is_told_in_it_too(self, client: FlaskClient, database: Database) -> None:
        client.post("/api/v1/tasks", json={"prompt": "p", "model": "m"})
        sql(
            database,
            """INSERT INTO task_events (task_id, from_status, to_status, attempt, detail) VALUES
               (1, 'PROCESSING', 'COMPLETED', 1, '{"reason": "cached", "cpu_seconds": 1.5, "peak_memory_mb": 20.5}')""",
        )
        sql(
            database,
            "INSERT INTO alerts (rule, level, title, message, status, next_at)"
            " VALUES ('x', 'critical', 't', 'm', 'OPEN', now())",
        )
        chinese = {"Accept-Language": "zh"}
        said = page(client, "/tasks/1", headers=chinese)
        for piece in ("原因: 已有相同的结果", "CPU 时间: 1.5 s", "内存峰值（MB）: 20.5"):
            assert piece in said
        assert "严重 ·" in page(client, "/system", headers=chinese)

    def test_times_are_the_viewers(self, client: FlaskClient, database: Database) -> None:
        client.post("/api/v1/tasks", json={"prompt": "p", "model": "m"})
        sql(database, "UPDATE tasks SET created_at = '2024-01-01T20:00:00Z'")
        client.set_cookie("zone", "Asia/Shanghai")
        assert "2024-01-02 04:00" in page(client, "/tasks")
        for nowhere in ("../../etc/passwd", "localtime"):
            client.set_cookie("zone", nowhere)
            assert "2024-01-01 20:00" in page(client, "/tasks")
            assert "<h1>Schedules</h1>" in page(client, "/schedules")  # PostgreSQL is told the zone, too


class TestTasks:
    def test_pages_follow_one_another_without_a_gap(self, client: FlaskClient) -> None:
        client.post("/api/v1/tasks/batch", json={"tasks": [{"prompt": "p", "model": "m"}] * 120})
        seen: list[str] = []
        path = "/tasks?task_type=text_generation"
        while path:
            said = page(client, path)
            seen += re.findall(r'href="/tasks/(\d+)"', said)
            following = re.search(r'rel="next" href="([^"]+)"', said)
            path = following[1].replace("&amp;", "&") if following else ""
        assert [int(number) for number in seen] == list(range(120, 0, -1))

    @pytest.mark.parametrize(
        ("search", "found"), [("NEEDLE", 1), ("针", 1), ("100%_", 1), ("topic of typed", 1), ("nowhere", 0)]
    )
    def test_a_search_finds_pieces_of_prompts_and_inputs(self, search: str, found: int, client: FlaskClient) -> None:
        for prompt in ("a needle here", "大海捞针", "100%_ sure"):
            client.post("/api/v1/tasks", json={"prompt": prompt, "model": "m"})
        client.post("/api/v1/memorize", json={"topic": "Topic of typed", "conversation_history": "text"})
        listed = client.get("/api/v1/tasks", query_string={"search": search}).get_json()
        assert len(listed) == found

    @pytest.mark.parametrize("query", ["", "&sort=created_at", "&sort=-priority", "&queue=default", "&status=FAILED"])
    def test_a_search_goes_on_where_the_page_before_has_looked(
        self, query: str, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tasks = [{"prompt": f"{'a needle' if n % 20 == 0 else 'hay'} {n}", "model": "m"} for n in range(60)]
        client.post("/api/v1/tasks/batch", json={"tasks": tasks})
        monkeypatch.setattr(listing, "LOOKED_THROUGH", 8)
        walked, pages, path = [], 0, f"/api/v1/tasks?search=NEEDLE&limit=1{query}"
        while path:
            answer = client.get(path)
            assert answer.headers["X-Total-Count-Exact"] == str("FAILED" in query).lower()
            walked += [task["id"] for task in answer.get_json()]
            following = re.search(r'<([^>]+)>; rel="next"', answer.headers.get("Link", ""))
            path, pages = following[1] if following else "", pages + 1
        found = [n + 1 for n in range(0, 60, 20)] if "FAILED" not in query else []
        assert walked == (found if "=created_at" in query else found[::-1])
        assert pages > len(walked)
        assert ("Not found so far" in page(client, f"/tasks?search=nowhere{query}")) == bool(found)

    def test_the_page_tells_of_tokens_money_and_attempts(self, configured: Settings, database: Database) -> None:
        prices = configured.data_dir / "prices.toml"
        prices.parent.mkdir(parents=True, exist_ok=True)
        prices.write_text('currency = "CNY"\n[prices.m]\ninput = 2\noutput = 4\n')
        with serving(replace(configured, providers_file=prices)) as app:
            client = app.test_client()
            client.post("/api/v1/tasks", json={"prompt": "p", "model": "m"})
            hand.finish(database, 1, result={"text": "done"})
            sql(
                database,
                """UPDATE tasks SET usage = '{"prompt_tokens": 500000, "completion_tokens": 250000,
                   "total_tokens": 750000}'""",
            )
            said = page(client, "/tasks/1")
        for piece in ("2.000000 CNY", "750,000", "Attempt 1", "Completed"):
            assert piece in said

    def test_tokens_that_no_answer_counted_are_none(self, client: FlaskClient, database: Database) -> None:
        client.post("/api/v1/tasks", json={"task_type": "embedding", "model": "m", "input": {"texts": ["one"]}})
        hand.finish(database, 1, result={}, usage={"prompt_tokens": 7, "total_tokens": 7})
        assert "7 in, 0 out" in page(client, "/tasks/1")

    @pytest.mark.parametrize("like", ["9" * 5000, "x", "٣"])
    def test_a_form_like_no_task_has_nothing_in_it(self, like: str, client: FlaskClient) -> None:
        assert "Submit a task" in page(client, f"/submit?like={like}")

    def test_an_attempt_that_ended_with_its_worker_is_not_shown_as_waiting(
        self, client: FlaskClient, database: Database
    ) -> None:
        client.post("/api/v1/tasks", json={"prompt": "p", "model": "m"})
        sql(
            database,
            """INSERT INTO task_events (task_id, from_status, to_status, attempt, worker, detail) VALUES
               (1, 'PENDING', 'PROCESSING', 1, 'w', NULL),
               (1, 'PROCESSING', 'PENDING', 0, 'w', '{"reason": "worker_lost", "delay": 1.187441609858496}')""",
        )
        said = page(client, "/tasks/1")
        for piece in ("Given back", "the worker was lost", "Next attempt after: 1.2 s"):
            assert piece in said

    @pytest.mark.parametrize(
        "query", ["", "?priority=7&sort=created_at", "?status=FAILED&sort=-priority", "?search=words"]
    )
    def test_the_list_tells_of_long_tasks_in_brief(self, query: str, client: FlaskClient, database: Database) -> None:
        client.post("/api/v1/tasks", json={"prompt": "Many words " * 9000, "model": "m", "priority": 7})
        hand.finish(database, 1, status="FAILED")
        said = page(client, f"/tasks{query}")
        for piece in ("Many words Many words", "provider_error", '<td class="amount" data-label="Priority">7'):
            assert piece in said
        assert len(said) < 20_000

    def test_the_page_of_a_task_that_moves_is_told_what_comes_after_what_it_shows(
        self, client: FlaskClient, database: Database
    ) -> None:
        client.post("/api/v1/tasks", json={"prompt": "p", "model": "m"})
        hand.claim(database, hand.register(database), [1])
        last = client.get("/api/v1/tasks/1/events").get_json()[-1]
        assert last["to_status"] == "PROCESSING"
        assert f'data-stream="/api/v1/tasks/1/events?after={last["id"]}"' in page(client, "/tasks/1")

    def test_no_tasks_yet_says_how_to_submit_the_first(self, client: FlaskClient) -> None:
        assert "No tasks yet" in page(client, "/tasks")
        assert "No task fits" in page(client, "/tasks?status=FAILED")

    def test_an_address_that_does_not_fit_is_told(self, client: FlaskClient) -> None:
        for query in ("status=NOPE", "cursor=x", "unknown=1", "priority=99"):
            assert "This address does not fit" in page(client, f"/tasks?{query}", 422)


class TestSchedules:
    def test_the_calendar_says_what_was_skipped_and_why(self, client: FlaskClient, database: Database) -> None:
        number = schedule(client)
        sql(
            database,
            "INSERT INTO executions (schedule_id, schedule_name, task_type, params, timezone, scheduled_for, trigger,"
            f" status, reason, completed_at) SELECT {number}, 'S', 'cleanup', '{{}}', 'UTC',"
            " '2026-03-05T18:00:00Z'::timestamptz + n * interval '1 minute', 'schedule', 'SKIPPED', 'paused', now()"
            " FROM generate_series(1, 3) AS n",
        )
        said = page(client, f"/schedules/{number}?month=2026-03")
        assert "the schedule was paused" in said
        link = re.search(r'href="(/schedules/executions\?[^"]+)"[^>]*title="Skipped', said)
        assert link
        assert page(client, link[1].replace("&amp;", "&")).count("<tr>") == 4
        assert "2026-03" in page(client, "/schedules?month=2026-03")
        assert datetime.now(UTC).strftime("%Y-%m") in page(client, "/schedules?month=nonsense")

    def test_what_stays_as_it_is_for_a_while_is_not_asked_for_every_ten_seconds(self, client: FlaskClient) -> None:
        schedule(client, name="Named")
        assert 'id="calendar"' in page(client, "/schedules")
        anew = page(client, "/schedules", headers={"Live-Parts": "only"})
        assert "Named" in anew
        assert 'id="calendar"' not in anew

    def test_a_preview_counts_as_the_schedule_does(self, client: FlaskClient, database: Database) -> None:
        number = schedule(client, cron_expression=None, interval=5, interval_unit="hours")
        sql(database, f"UPDATE schedules SET anchor = '2026-01-01T00:30:00Z' WHERE id = {number}")
        for count, slots in ((5, 5), (6, 0)):  # another interval is counted from now on
            said = page(client, f"/schedules/{number}/preview?interval={count}&interval_unit=hours&timezone=UTC")
            assert said.count("<li>") == 5
            assert len(re.findall(r'datetime="[0-9-]+T[0-9]+:30:00\+00:00"', said)) == slots

    def test_a_preview_keeps_within_its_bounds(self, client: FlaskClient) -> None:
        bounds = "starts_at=2090-01-01T00:00:00Z&ends_at=2090-01-01T10:00:00Z"
        said = page(client, f"/schedules/preview?interval=5&interval_unit=hours&timezone=UTC&{bounds}")
        assert [f"2090-01-01 {hour}:00" in said for hour in ("00", "05", "10", "15")] == [True, True, True, False]
        assert said.count("<li>") == 3

    @pytest.mark.parametrize(
        ("query", "said"),
        [
            ("cron_expression=0 8 * * *&timezone=Asia/Shanghai", "<li>"),
            ("interval=2&interval_unit=hours&timezone=UTC", "<li>"),
            ("cron_expression=0 8 * *&timezone=UTC", "Five fields are needed"),
            ("cron_expression=0 8 * * *&timezone=Nowhere/No", "Not an IANA time zone."),
            ("interval=x&interval_unit=hours", "problem"),
            ("interval=99999999&interval_unit=weeks", "problem"),
            ("", "problem"),
        ],
    )
    def test_a_preview_shows_slots_or_what_is_wrong(self, query: str, said: str, client: FlaskClient) -> None:
        assert said in page(client, f"/schedules/preview?{query}")


class TestTrends:
    def test_the_numbers_come_as_csv_without_formulas(self, client: FlaskClient, database: Database) -> None:
        client.post("/api/v1/tasks", json={"prompt": "p", "model": "=HYPERLINK(1)"})
        hand.finish(database, 1, result={"text": "x"})
        answer = client.get("/trends/hours.csv")
        lines = answer.get_data(as_text=True).splitlines()
        assert answer.mimetype == "text/csv"
        assert lines[0].startswith("hour,total_tasks,completed")
        assert len(lines) == 25
        assert lines[-1].split(",")[1:3] == ["1", "1"]
        for by in ("model", "account_id", "task_type", "day"):
            assert client.get(f"/trends/costs-{by}.csv").get_data(as_text=True).startswith(f"{by},tasks,")
        assert client.get("/trends/costs-nothing.csv").status_code == 404

    def test_small_amounts_of_money_are_not_nothing(self, configured: Settings, database: Database) -> None:
        configured.data_dir.mkdir(parents=True, exist_ok=True)
        prices = configured.data_dir / "prices.toml"
        prices.write_text("[prices.m]\ninput = 2\noutput = 4\n")
        with serving(replace(configured, providers_file=prices)) as app:
            client = app.test_client()
            client.post("/api/v1/tasks", json={"prompt": "p", "model": "m"})
            hand.finish(database, 1, usage={"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16})
            said = page(client, "/trends")
        # By model, account and type; beside the plot, where the half of it stands, too, and in its table.
        assert said.count("0.0000500<") == 5
        assert "0.0000250<" in said

    def test_a_page_full_of_numbers_has_them_in_tables_too(self, client: FlaskClient, database: Database) -> None:
        client.post("/api/v1/tasks", json={"prompt": "p", "model": "m"})
        hand.finish(database, 1, result={"text": "x"})
        said = page(client, "/trends")
        assert said.count("<svg") >= 2
        assert said.count("<title>") == said.count("<desc>") + 1
        assert "The numbers" in said


def test_what_is_wrong_is_announced_once_not_with_every_number_that_changes(client: FlaskClient) -> None:
    for path, part, said in (("/", "now", "No worker is alive"), ("/schedules", "schedules", "No scheduler is alive")):
        before, _, behind = page(client, path).partition(f'<div id="{part}"')
        assert re.search(rf'<div id="wrong" data-live="\d+" role="alert"><p class="note"><strong>{said}', before)
        assert 'role="alert"' not in behind


def test_the_pages_say_when_the_database_is_away(configured: Settings) -> None:
    with serving(replace(configured, database_url=AWAY)) as app:
        client = app.test_client()
        for path in ("/", "/tasks", "/trends"):
            assert "Not reachable right now" in page(client, path, 503)
        assert client.get("/").get_json()["code"] == 503
