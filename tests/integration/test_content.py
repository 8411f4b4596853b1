"""Accounts, and contents with their review; tasks are completed the way a worker does it."""

import random
from dataclasses import replace
from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient

from jobs.settings import Settings
from jobs.store import listing
from jobs.store.database import Database
from tests.support import hand
from tests.support.access import GIVEN, bearer, serving, sql


def account(client: FlaskClient, **facts: Any) -> int:
    answer = client.post("/api/v1/accounts", json={"name": "账号", **facts})
    assert answer.status_code == 201, answer.get_json()
    return int(answer.get_json()["id"])


def complete(database: Database, *ids: int, result: dict[str, Any] | None = None) -> None:
    """Claim tasks and record their completion, with what belongs into the same transaction."""
    article = result or {"title": "题目", "body": "正文", "summary": "s", "category": "tech", "topic": "AI"}
    hand.finish(database, *ids, result=article)


def content(client: FlaskClient, database: Database, auto_approve: bool = False) -> dict[str, Any]:
    """A content as it comes out of a task."""
    given = {"account_id": account(client), "topic": "AI", "auto_approve": auto_approve}
    task = client.post("/api/v1/tasks", json={"task_type": "content_generation", "input": given}).get_json()
    complete(database, task["id"])
    (made,) = client.get("/api/v1/contents").get_json()
    found: dict[str, Any] = made
    return found


class TestAccounts:
    def test_life_of_an_account(self, client: FlaskClient) -> None:
        answer = client.post("/api/v1/accounts", json={"name": "A", "profile": {"voice": "warm"}})
        assert answer.status_code == 201
        url = answer.headers["Location"]
        assert client.get(url).get_json()["profile"] == {"voice": "warm"}
        assert client.patch(url, json={"name": "B"}).get_json()["name"] == "B"
        assert client.get(url).get_json()["profile"] == {"voice": "warm"}
        assert client.put(url, json={"name": "C"}).get_json()["profile"] == {}
        assert [found["name"] for found in client.get("/api/v1/accounts").get_json()] == ["C"]
        assert client.delete(url).status_code == 204
        assert client.get(url).status_code == 404
        assert client.delete(url).status_code == 404

    def test_a_caller_may_give_the_id(self, client: FlaskClient) -> None:
        assert account(client, id=49) == 49
        assert client.post("/api/v1/accounts", json={"id": 49, "name": "again"}).status_code == 409
        assert account(client) == 50

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"name": ""}, "name"),
            ({"name": None}, "name"),
            ({"id": 0}, "id"),
            ({"id": "7"}, "id"),
            ({"profile": []}, "profile"),
            ({"profile": {"voice": 5}}, "profile"),
            ({"nickname": "x"}, "nickname"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, change: dict[str, Any], field: str, client: FlaskClient) -> None:
        answer = client.post("/api/v1/accounts", json={"name": "A", **change})
        assert answer.status_code == 422
        assert list(answer.get_json()["errors"]["json"]) == [field]

    def test_an_account_with_work_is_kept(self, client: FlaskClient, database: Database) -> None:
        made = content(client, database)
        assert client.delete(f"/api/v1/accounts/{made['account_id']}").status_code == 409


class TestContents:
    @pytest.mark.parametrize(("auto_approve", "status"), [(True, "APPROVED"), (False, "PENDING_REVIEW")])
    def test_a_completed_task_makes_a_content(
        self, auto_approve: bool, status: str, client: FlaskClient, database: Database
    ) -> None:
        made = content(client, database, auto_approve)
        assert (made["title"], made["body"], made["summary"]) == ("题目", "正文", "s")
        assert (made["category"], made["topic"], made["review_status"]) == ("tech", "AI", status)
        assert client.get(f"/api/v1/tasks/{made['task_id']}").get_json()["account_id"] == made["account_id"]

    def test_filters(self, client: FlaskClient, database: Database) -> None:
        made = content(client, database)

        def count(**query: Any) -> int:
            return len(client.get("/api/v1/contents", query_string=query).get_json())

        assert count(account_id=made["account_id"]) == count(review_status="PENDING_REVIEW") == 1
        assert count(task_id=made["task_id"]) == count(category="tech") == 1
        assert count(account_id=999) == count(review_status="APPROVED") == count(category="x") == 0

    def test_approve(self, client: FlaskClient, database: Database) -> None:
        url = f"/api/v1/contents/{content(client, database)['id']}"
        approved = client.post(f"{url}/approve").get_json()
        assert (approved["review_status"], approved["reviewed_by"]) == ("APPROVED", "anonymous")
        assert approved["reviewed_at"]
        assert client.post(f"{url}/approve").status_code == 409

    def test_reject_with_a_reason(self, client: FlaskClient, database: Database) -> None:
        url = f"/api/v1/contents/{content(client, database)['id']}"
        rejected = client.post(f"{url}/reject", json={"reason": "太短"}).get_json()
        assert (rejected["review_status"], rejected["review_reason"]) == ("REJECTED", "太短")
        assert rejected["regeneration_task"] is None
        assert client.post(f"{url}/reject", json={"reason": "again"}).status_code == 409
        assert client.post(f"{url}/approve").get_json()["review_reason"] is None

    @pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": "  "}, {"reason": 5}, {"reason": "x", "more": 1}])
    def test_a_rejection_needs_a_reason(self, body: dict[str, Any], client: FlaskClient, database: Database) -> None:
        url = f"/api/v1/contents/{content(client, database)['id']}"
        assert client.post(f"{url}/reject", json=body).status_code == 422

    def test_reject_may_ask_for_another_try(self, client: FlaskClient, database: Database) -> None:
        made = content(client, database)
        answer = client.post(f"/api/v1/contents/{made['id']}/reject", json={"reason": "太短", "regenerate": True})
        task = answer.get_json()["regeneration_task"]
        assert task["parent_task_id"] == made["task_id"]
        assert task["input"]["rejected_because"] == "太短"
        assert task["input"]["topic"] == "AI"
        complete(database, task["id"])
        newest, first = client.get("/api/v1/contents").get_json()
        assert (newest["review_status"], first["review_status"]) == ("PENDING_REVIEW", "REJECTED")

    def test_edits_keep_their_history(self, client: FlaskClient, database: Database) -> None:
        url = f"/api/v1/contents/{content(client, database)['id']}"
        assert client.patch(url, json={"title": "新题", "summary": "s"}).get_json()["title"] == "新题"
        client.patch(url, json={"body": "b2", "category": None})
        answer = client.get(f"{url}/edits")
        edits = answer.get_json()
        assert (answer.headers["X-Total-Count"], answer.headers["X-Total-Count-Exact"]) == ("2", "true")
        assert [(edit["before"], edit["after"]) for edit in edits] == [
            ({"title": "题目"}, {"title": "新题"}),
            ({"body": "正文", "category": "tech"}, {"body": "b2", "category": None}),
        ]
        assert {edit["who"] for edit in edits} == {"anonymous"}
        assert client.patch(url, json={}).status_code == 422
        assert client.patch(url, json={"review_status": "APPROVED"}).status_code == 422

    def test_those_of_a_category_are_found_by_an_index(self, client: FlaskClient, database: Database) -> None:
        with database.transaction() as session:
            session.run(
                "INSERT INTO contents (account_id, task_id, title, body, category, review_status)"
                " SELECT 1, n, 't', repeat('b', 500), CASE n % 2 WHEN 0 THEN 'common' END, 'APPROVED'"
                " FROM generate_series(1, 5000) AS n"
            )
            session.run("UPDATE contents SET category = 'rare' WHERE id IN (7, 4007)")
            session.run("ANALYZE contents")
            wanted = session.run(
                f"EXPLAIN SELECT * FROM contents WHERE {listing.CONTENTS.filters['category']}"
                " ORDER BY id DESC LIMIT 101",
                {"category": "rare"},
            )
        assert "contents_by_category" in str(wanted)
        page = client.get("/api/v1/contents?category=rare")
        assert [row["id"] for row in page.get_json()] == [4007, 7]
        assert page.headers["X-Total-Count"] == "2"
        assert client.get("/api/v1/contents?category=common&limit=1").headers["X-Total-Count"] == "2500"

    def test_a_category_may_be_longer_than_an_index_can_hold(self, client: FlaskClient, database: Database) -> None:
        long = random.Random(1).randbytes(5000).hex()  # as an account's default may be; it cannot be packed
        given = {"account_id": account(client), "topic": "AI"}
        task = client.post("/api/v1/tasks", json={"task_type": "content_generation", "input": given}).get_json()
        complete(database, task["id"], result={"title": "t", "body": "b", "summary": "s", "category": long})
        (made,) = client.get("/api/v1/contents", query_string={"category": long[:600]}).get_json()
        assert made["category"] == long

    @pytest.mark.parametrize("path", ["", "/edits"])
    def test_what_is_not_there_is_404(self, path: str, client: FlaskClient) -> None:
        assert client.get(f"/api/v1/contents/4711{path}").status_code == 404
        assert client.post("/api/v1/contents/4711/approve").status_code == 404


class TestDailyLife:
    def test_a_day_is_made_read_back_and_replaced(self, client: FlaskClient, database: Database) -> None:
        url = "/api/v1/daily-life?target_date=2026-11-23"
        assert client.get(url).status_code == 404
        for mood in ("calm", "wild"):
            task = client.post(url, json={"weather": "rain", "major_events": ["a fair"]})
            assert task.status_code == 202
            assert task.get_json()["input"]["weather"] == "rain"
            items = [{"start": "09:00", "end": "10:00", "activity": "x", "mood": mood}]
            result = {"date": "2026-11-23", "schedule_items": items, "micro_experiences": []}
            keep(database, task.get_json()["id"], result)
            assert client.get(url).get_json()["schedule_items"][0]["mood"] == mood
        assert client.get(f"{url}&account_id=5").status_code == 404

    def test_it_is_read_through_a_cache(self, client: FlaskClient, database: Database) -> None:
        url = "/api/v1/daily-life?target_date=2026-11-23"
        task = client.post(url).get_json()
        keep(database, task["id"], {"date": "2026-11-23", "schedule_items": [], "micro_experiences": []})
        first = client.get(url).get_json()
        with database.transaction() as session:
            session.run("UPDATE daily_lives SET schedule_items = '[1]'")
        assert client.get(url).get_json() == first

    @pytest.mark.parametrize(
        "query",
        [
            "",
            "?target_date=",
            "?target_date=tomorrow",
            "?target_date=2026-02-30",
            "?target_date=2026-W01-1",
            "?target_date=20261123",
            "?target_date=2026-11-23%0A",
        ],
    )
    @pytest.mark.parametrize("method", ["get", "post"])
    def test_bad_dates_get_422(self, method: str, query: str, client: FlaskClient) -> None:
        answer = getattr(client, method)(f"/api/v1/daily-life{query}")
        assert answer.status_code == 422
        assert list(answer.get_json()["errors"]["query"]) == ["target_date"]

    def test_a_day_of_no_account_takes_turns_as_its_keys_tasks_do(
        self, configured: Settings, database: Database
    ) -> None:
        with serving(replace(configured, api_keys=(GIVEN,))) as app:
            client, url = app.test_client(), "/api/v1/daily-life?target_date=2026-11-23"
            for query in ("", "&account_id=5"):
                assert client.post(url + query, headers=bearer(GIVEN.secret)).status_code == 202
        owners = sql(database, "SELECT owner FROM tasks ORDER BY id")
        assert [row["owner"] for row in owners] == [f"key:{GIVEN.name}", "account:5"]


def keep(database: Database, task_id: int, result: dict[str, Any]) -> None:
    """Complete a `daily_life` task."""
    with database.transaction() as session:
        session.run(
            "UPDATE tasks SET status = 'COMPLETED', completed_at = now(), result = %(result)s::jsonb WHERE id = %(id)s",
            {"id": task_id, "result": orjson.dumps(result).decode()},
        )
        session.all("keep_daily_lives", {"ids": [task_id]})
