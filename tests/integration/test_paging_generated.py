"""Whatever the filters and the order, walking the pages shows every row once, by cursor, by skip and by Link."""

import random
import re
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.lifecycle import Status
from jobs.settings import Settings
from jobs.store import listing
from jobs.store.database import Database

ROWS = 120
START = datetime.fromisoformat("2026-11-01T00:00:00+00:00")
filters = st.fixed_dictionaries(
    {},
    optional={
        "status": st.lists(st.sampled_from(list(Status)), min_size=1, max_size=3).map(",".join),
        "priority": st.integers(1, 10),
        "task_type": st.sampled_from(["text_generation", "cleanup", "none such"]),
        "queue": st.sampled_from(["high", "default", "low"]),
        "account_id": st.integers(1, 4),
        "created_after": st.integers(-1, 6).map(lambda days: (START + timedelta(days=days)).isoformat()),
        "created_before": st.integers(-1, 6).map(lambda days: (START + timedelta(days=days)).isoformat()),
    },
)


@pytest.fixture
def configured(configured: Settings) -> Settings:
    return replace(configured, rate_limit_default="")


def fill(database: Database) -> None:
    """Tasks of which many were created in the same moment, or have the same priority."""
    chance = random.Random(1)
    with database.transaction() as session:
        for _ in range(ROWS):
            status = chance.choice(["PENDING", "PENDING", "COMPLETED", "FAILED", "CANCELLED"])
            priority = chance.choice([1, 3, 4, 5, 5, 5, 7, 8, 10])
            created_at = START + timedelta(days=chance.randrange(5))
            session.run(
                "INSERT INTO tasks (task_type, prompt, model, status, priority, queue, account_id, timeout_seconds,"
                " max_retries, retry, created_at, completed_at, error)"
                " VALUES (%(kind)s, 'p', 'm', %(status)s, %(priority)s, %(queue)s, %(account)s, 300, 3, '{}', %(at)s,"
                " %(ended)s, %(error)s)",
                {
                    "kind": chance.choice(["text_generation", "cleanup"]),
                    "status": status,
                    "priority": priority,
                    "queue": "high" if priority >= 8 else "default" if priority >= 4 else "low",
                    "account": chance.choice([None, 1, 2, 3]),
                    "at": created_at,
                    "error": '{"code": "timeout"}' if status == "FAILED" else None,
                    "ended": None if status == "PENDING" else created_at,
                },
            )


def test_every_walk_through_the_pages_shows_each_row_once_and_in_order(client: FlaskClient, database: Database) -> None:
    fill(database)
    whole = client.get("/api/v1/tasks?limit=1000&sort=id").get_json()
    assert len(whole) == ROWS

    def page(url: str, **query: Any) -> tuple[list[int], dict[str, str], int]:
        answer = client.get(url, query_string=query or None)
        assert answer.status_code == 200, answer.get_data(as_text=True)
        links = {
            relation: target
            for target, relation in re.findall(r'<([^>]*)>; rel="(\w+)"', answer.headers.get("Link", ""))
        }
        return [row["id"] for row in answer.get_json()], links, int(answer.headers["X-Total-Count"])

    def expected(query: dict[str, Any], sort: str) -> list[int]:
        key = sort.removeprefix("-")
        found = [row for row in whole if fits(row, query)]
        found.sort(key=lambda row: (row[key], row["id"]), reverse=sort.startswith("-"))
        return [row["id"] for row in found]

    @settings(max_examples=settings().max_examples // 4)
    @given(filters, st.sampled_from(listing.TASKS.sorts), st.integers(4, 60))
    def walk(query: dict[str, Any], sort: str, limit: int) -> None:
        wanted = expected(query, sort)
        seen, links, total = page("/api/v1/tasks", **query, sort=sort, limit=limit)
        assert total == len(wanted)
        assert "first" not in links
        while "next" in links:
            ids, links, total = page(links["next"])
            assert ids
            assert total == len(wanted)
            seen += ids
        assert seen == wanted
        skipped: list[int] = []
        for skip in range(0, len(wanted) + limit, limit):
            ids, links, _ = page("/api/v1/tasks", **query, sort=sort, limit=limit, skip=skip)
            assert ids == wanted[skip : skip + limit]
            assert ("next" in links) == (skip + limit < len(wanted))
            if skip:
                assert page(links["prev"])[0] == wanted[max(0, skip - limit) :][:limit]
                assert page(links["first"])[0] == wanted[:limit]
            skipped += ids
        assert skipped == wanted

    walk()


def test_without_an_order_the_newest_come_first(client: FlaskClient, database: Database) -> None:
    fill(database)
    rows = client.get("/api/v1/tasks?limit=1000").get_json()
    assert [row["id"] for row in rows] == sorted((row["id"] for row in rows), reverse=True)
    since = (START + timedelta(days=2)).isoformat()
    newer = client.get("/api/v1/tasks", query_string={"limit": 1000, "created_after": since}).get_json()
    in_order = sorted(
        (row for row in rows if row["created_at"] >= newer[-1]["created_at"]),
        key=lambda row: (row["created_at"], row["id"]),
        reverse=True,
    )
    assert newer == in_order


def fits(row: dict[str, Any], query: dict[str, Any]) -> bool:
    """What the filters say, in Python."""
    moment = datetime.fromisoformat(row["created_at"])
    return (
        row["status"] in query.get("status", row["status"]).split(",")
        and all(row[name] == query[name] for name in ("priority", "task_type", "queue", "account_id") if name in query)
        and ("created_after" not in query or moment >= datetime.fromisoformat(query["created_after"]))
        and ("created_before" not in query or moment < datetime.fromisoformat(query["created_before"]))
    )


def test_a_cursor_that_was_tampered_with_is_refused(client: FlaskClient, database: Database) -> None:
    fill(database)
    link = client.get("/api/v1/tasks?sort=created_at&limit=1").headers["Link"]
    (cursor,) = re.findall(r"cursor=([\w-]+)", link)

    @given(
        st.integers(0, len(cursor) - 1),
        st.sampled_from("Aa0-_"),
        st.text(max_size=4) | st.sampled_from(["=", "W10", "bnVsbA"]),
    )
    def look(place: int, letter: str, more: str) -> None:
        for changed in (cursor[:place] + letter + cursor[place + 1 :], cursor[:place], cursor + more, more):
            answer = client.get("/api/v1/tasks", query_string={"sort": "created_at", "cursor": changed})
            assert answer.status_code in (200, 422)

    look()
