"""Who did what that only administrators may, and who logged in: rows that are written before the act is over."""

from typing import Literal

from jobs.store.database import Session

Outcome = Literal["ATTEMPTED", "DONE", "REFUSED", "FAILED"]
OUTCOMES: tuple[Outcome, ...] = ("ATTEMPTED", "DONE", "REFUSED", "FAILED")
"""ATTEMPTED: it began, and whether it was done is not known: the process died, or lost PostgreSQL, meanwhile."""


def outcome_of(status_code: int) -> Outcome:
    """What became of an act that was answered so."""
    if status_code >= 500:
        return "FAILED"
    return "REFUSED" if status_code >= 400 else "DONE"


def record(
    session: Session,
    *,
    who: str,
    action: str,
    object: str = "",  # noqa: A002 - the column's name
    key_prefix: str = "",
    request_id: str | None = None,
    client: str | None = None,
    outcome: Outcome = "DONE",
    status_code: int | None = None,
) -> int:
    """Write a row, committed with the transaction; returns its id."""
    facts = {
        "who": who, "action": action, "object": object, "key_prefix": key_prefix, "request_id": request_id,
        "client": client, "outcome": outcome, "status_code": status_code,
    }  # fmt: skip
    (row,) = session.all("audit", facts)
    return int(row["id"])
