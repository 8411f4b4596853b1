"""Reviewing what was produced: approve, reject, edit, try again."""

from collections.abc import Mapping
from typing import Any

from jobs.errors import StateConflict, found
from jobs.store.database import Database, Json, Row, Session
from jobs.submit import Submitter

_EDITABLE = ("title", "body", "summary", "category", "topic")


class Contents:
    """Contents and their review states.

    All methods raise `NotFound` where there is no such content.
    """

    def __init__(self, database: Database, submitter: Submitter) -> None:
        self._database = database
        self._submitter = submitter

    def get(self, content_id: int) -> Row:
        """A content's row."""
        return found(self._database.one("get_content", {"id": content_id}), "content", content_id)

    def edits(self, content_id: int) -> list[Row]:
        """Its edits, oldest first."""
        self.get(content_id)
        return self._database.all("content_edits", {"id": content_id})

    def approve(self, content_id: int, who: str) -> Row:
        """Approve it; `StateConflict` when it is already."""
        with self._database.transaction() as session:
            self._lock(session, content_id, unless="APPROVED")
            return _review(session, content_id, "APPROVED", None, who)

    def reject(self, content_id: int, reason: str, who: str, regenerate: bool) -> tuple[Row, Row | None]:
        """Reject it; with `regenerate`, also the task that tries again, its prompt carrying the reason.

        Raises:
            StateConflict: it is rejected already, or the task that made it is gone.
        """
        task: Row | None = None
        with self._database.transaction() as session:
            content = self._lock(session, content_id, unless="REJECTED")
            row = _review(session, content_id, "REJECTED", reason, who)
            if regenerate:
                first = session.one("get_task", {"id": content["task_id"]})
                if first is None:
                    raise StateConflict(f"The task that made content {content_id} is past its retention.")
                (task,) = self._submitter.insert(session, [_again(first, reason)])
        if task:
            self._submitter.announce([task])
        return row, task

    def edit(self, content_id: int, change: Mapping[str, Any], who: str) -> Row:
        """Change some of its fields; the history keeps who, when, and both versions of what changed."""
        with self._database.transaction() as session:
            content = self._lock(session, content_id)
            changed = {name: value for name, value in change.items() if content[name] != value}
            if not changed:
                return content
            before = {name: content[name] for name in changed}
            facts = {name: content[name] for name in _EDITABLE} | changed
            row = found(session.one("edit_content", {"id": content_id, **facts}), "content", content_id)
            session.all("log_edit", {"id": content_id, "who": who, "before": Json(before), "after": Json(changed)})
            return row

    def _lock(self, session: Session, content_id: int, unless: str | None = None) -> Row:
        content = found(session.one("lock_content", {"id": content_id}), "content", content_id)
        if content["review_status"] == unless:
            raise StateConflict(f"Content {content_id} is {unless} already.")
        return content


def _review(session: Session, content_id: int, status: str, reason: str | None, who: str) -> Row:
    facts = {"id": content_id, "status": status, "reason": reason, "who": who}
    return found(session.one("review_content", facts), "content", content_id)


def _again(task: Row, reason: str) -> dict[str, Any]:
    copied = ("task_type", "model", "priority", "max_retries", "timeout_seconds", "retry", "metadata")
    return {
        **{name: task[name] for name in copied},
        "input": {**task["input"], "rejected_because": reason},
        "parent_task_id": task["id"],
    }
