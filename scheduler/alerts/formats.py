"""Alerts in the shapes that webhooks want, and whether they took them. Pure.

- Slack: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
- WeCom: https://developer.work.weixin.qq.com/document/path/91770
- DingTalk: https://open.dingtalk.com/document/robots/custom-robot-access
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from jobs.settings import AlertFormat

SERVICE: Final = "Pressroom"
"""In every message: DingTalk's robots ask for a keyword."""

_WECOM_BYTES: Final = 4096
_COLOURS: Final = {"info": "info", "warning": "warning", "error": "warning", "critical": "warning"}


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to say.

    Attributes:
        status: OPEN, RESOLVED or NOTED.
    """

    rule: str
    subject: str
    level: str
    title: str
    message: str
    status: str
    timestamp: datetime

    @classmethod
    def of(cls, alert: Mapping[str, Any]) -> "Notice":
        """What there is to say of an alert's row."""
        words = {name: alert[name] for name in ("rule", "subject", "title", "message", "status")}
        if alert["status"] != "RESOLVED":
            return cls(**words, level=alert["level"], timestamp=alert["opened_at"])
        return cls(**{**words, "title": f"Resolved: {alert['title']}"}, level="info", timestamp=alert["closed_at"])


def _json(notice: Notice) -> dict[str, Any]:
    names = ("title", "message", "level", "timestamp", "status", "rule", "subject")
    return {**{name: getattr(notice, name) for name in names}, "service": SERVICE}


def _slack(notice: Notice) -> dict[str, Any]:
    title, message = (
        text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for text in (notice.title, notice.message)
    )
    return {"text": f"*{SERVICE} {notice.level}: {title}*\n{message}"}


def _wecom(notice: Notice) -> dict[str, Any]:
    # Its markdown knows `<font>` and `<@userid>` only, and no way to write a plain `<`.
    title, message = (text.replace("<", "＜") for text in (notice.title, notice.message))
    head = f'**<font color="{_COLOURS[notice.level]}">{SERVICE} {notice.level}</font>: {title}**\n'
    room = _WECOM_BYTES - len(head.encode())
    return {"msgtype": "markdown", "markdown": {"content": head + message.encode()[:room].decode(errors="ignore")}}


def _dingtalk(notice: Notice) -> dict[str, Any]:
    title = f"{SERVICE} {notice.level}: {notice.title}"
    return {"msgtype": "markdown", "markdown": {"title": title, "text": f"#### {title}\n\n{notice.message}"}}


_FORMATS: Final[dict[AlertFormat, Callable[[Notice], dict[str, Any]]]] = {
    "json": _json, "slack": _slack, "wecom": _wecom, "dingtalk": _dingtalk,
}  # fmt: skip


def body_of(notice: Notice, as_format: AlertFormat) -> bytes:
    """What to post."""
    return orjson.dumps(_FORMATS[as_format](notice), option=orjson.OPT_UTC_Z)


def was_taken(as_format: AlertFormat, content: bytes) -> bool:
    """Whether a 200 means yes: WeCom and DingTalk say no with an `errcode` in the body."""
    if as_format not in ("wecom", "dingtalk"):
        return True
    try:
        return bool(orjson.loads(content)["errcode"] == 0)
    except (ValueError, LookupError, TypeError):
        return False
