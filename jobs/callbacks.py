"""Callbacks as callers and administrators see them, and what a delivery is made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from jobs.errors import found
from jobs.retry import RetryPolicy
from jobs.shapes import shown_batch, shown_task
from jobs.store.database import Database, Row
from jobs.webhooks.sender import Answer
from jobs.webhooks.signing import new_secret

POLICY: Final = RetryPolicy("exponential", base_delay=5, max_delay=3600)
"""Some ten tries in the first hour and a half, then one an hour, until the row's time to give up."""

_GONE: Final = 410
_TIMES: Final = frozenset({"created_at", "updated_at", "run_at", "started_at", "completed_at", "last_end"})
_OPTIONS: Final = orjson.OPT_UTC_Z


class Callbacks:
    """Looks at callbacks, replays them, and knows the secret. Methods raise `Unavailable`."""

    def __init__(self, database: Database, secret: str | None) -> None:
        self._database = database
        self._secret = secret

    def get(self, callback_id: int) -> tuple[Row, list[Row]]:
        """A callback and its attempts, oldest first; `NotFound` when there is none."""
        row = found(self._database.one("get_callback", {"id": callback_id}), "callback", callback_id)
        return row, self._database.all("callback_attempts", {"id": callback_id})

    def replay(self, callback_id: int) -> Row:
        """Have it delivered again, now, with a whole day for it; `NotFound` when there is none."""
        return found(self._database.one("replay_callback", {"id": callback_id}), "callback", callback_id)

    def secret(self) -> str:
        """What callbacks are signed with."""
        return self._secret or str(self._database.all("keep_secret", made_up())[0]["value"])


def made_up() -> dict[str, str]:
    """Parameters of `keep_secret`: the secret to use when the settings name none, and there was none before."""
    return {"name": "callbacks", "value": new_secret()}


def body_of(row: Row) -> bytes:
    """The message: `type`, `timestamp` of the end, and the task or batch as the API showed it then."""
    payload = row["payload"]
    if row["type"].startswith("task."):
        data = shown_task(_timed(payload))
    else:
        data = shown_batch(_timed(payload["batch"]), [_timed(state) for state in payload["states"]], payload["errors"])
    return orjson.dumps({"type": row["type"], "timestamp": row["created_at"], "data": data}, option=_OPTIONS)


def _timed(stored: Mapping[str, Any]) -> dict[str, Any]:
    """With times as times again, so that they are written as in all other answers."""
    times = {
        name: datetime.fromisoformat(stored[name]).astimezone(UTC) for name in _TIMES & set(stored) if stored[name]
    }
    return {**stored, **times}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows a try: the callback's state, and in how many seconds the next try is due."""

    status: str
    delay: float = 0.0


def judge(answer: Answer, tries: int, policy: RetryPolicy, chance: float) -> Verdict:
    """2xx is success, 410 Gone the end; all else is tried again. `Retry-After` is a floor under the pause.

    Args:
        tries: how many there were, this one included.
        chance: see `RetryPolicy.pause`.
    """
    if answer.is_success:
        return Verdict("DELIVERED")
    if answer.status_code == _GONE:
        return Verdict("FAILED")
    return Verdict("PENDING", policy.pause(tries, chance, answer.retry_after))
