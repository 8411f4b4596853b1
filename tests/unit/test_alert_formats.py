"""Alerts have the shapes that the webhooks of Slack, WeCom and DingTalk take."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from jobs.settings import ALERT_FORMATS, AlertFormat
from jobs.store.queries import QUERIES
from scheduler.alerts.formats import Notice, body_of, was_taken
from scheduler.alerts.rules import EVERY

ALERT: dict[str, Any] = {
    "rule": "queue_too_old",
    "subject": "low",
    "level": "warning",
    "title": "Queue low is too old",
    "message": "12 tasks wait & <b>wait</b>",
    "status": "OPEN",
    "opened_at": datetime(2026, 11, 23, 8, tzinfo=UTC),
    "closed_at": None,
}


def shaped(as_format: AlertFormat, **change: Any) -> Any:
    return json.loads(body_of(Notice.of({**ALERT, **change}), as_format))


def test_json_has_everything() -> None:
    assert shaped("json") == {
        "title": "Queue low is too old",
        "message": "12 tasks wait & <b>wait</b>",
        "level": "warning",
        "timestamp": "2026-11-23T08:00:00Z",
        "status": "OPEN",
        "rule": "queue_too_old",
        "subject": "low",
        "service": "Pressroom",
    }


def test_a_recovery_says_so() -> None:
    said = shaped("json", status="RESOLVED", closed_at=datetime(2026, 11, 23, 9, tzinfo=UTC))
    assert (said["title"], said["level"]) == ("Resolved: Queue low is too old", "info")
    assert said["timestamp"] == "2026-11-23T09:00:00Z"


def test_slack_gets_text_with_its_control_characters_escaped() -> None:
    assert shaped("slack") == {
        "text": "*Pressroom warning: Queue low is too old*\n12 tasks wait &amp; &lt;b&gt;wait&lt;/b&gt;"
    }


def test_wecom_gets_markdown_within_its_limit_that_mentions_nobody() -> None:
    said = shaped("wecom", message="<@all> " + "值" * 5000)
    assert said["msgtype"] == "markdown"
    content = said["markdown"]["content"]
    assert "Queue low is too old" in content
    assert "<@" not in content
    assert 4000 < len(content.encode()) <= 4096


def test_dingtalk_gets_markdown_with_a_title() -> None:
    said = shaped("dingtalk")
    assert said["msgtype"] == "markdown"
    assert said["markdown"]["title"] == "Pressroom warning: Queue low is too old"
    assert "12 tasks wait" in said["markdown"]["text"]


@pytest.mark.parametrize("as_format", ALERT_FORMATS)
def test_the_keyword_is_in_every_message(as_format: AlertFormat) -> None:
    assert "Pressroom" in json.dumps(shaped(as_format))


@pytest.mark.parametrize(
    ("as_format", "content", "taken"),
    [
        ("json", b"", True),
        ("slack", b"ok", True),
        ("wecom", b'{"errcode": 0, "errmsg": "ok"}', True),
        ("wecom", b'{"errcode": 93000, "errmsg": "invalid webhook url"}', False),
        ("dingtalk", b'{"errcode": 310000, "errmsg": "keywords not in content"}', False),
        ("dingtalk", b"<html>", False),
        ("wecom", b"[]", False),
    ],
)
def test_a_200_may_mean_no(as_format: AlertFormat, content: bytes, taken: bool) -> None:
    assert was_taken(as_format, content) == taken


def test_every_rule_has_a_name_of_its_own_and_a_statement_that_is_there() -> None:
    assert len({rule.name for rule in EVERY}) == len(EVERY)
    assert {rule.statement for rule in EVERY if rule.statement} <= set(QUERIES)
