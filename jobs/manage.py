"""What callers may do to tasks that exist: cancel, retry, look at batches."""

from typing import Any

import structlog

from jobs import hooks
from jobs.errors import StateConflict, found
from jobs.lifecycle import TERMINAL, Status, sources
from jobs.live import tell
from jobs.queues import Doorbell, RedisError
from jobs.shapes import shown_batch
from jobs.store.database import Database, Refused, Row
from jobs.submit import Submitter

log = structlog.get_logger(__name__)


class Manager:
    """Cancels and retries tasks, and sums up batches."""

    def __init__(self, database: Database, doorbell: Doorbell, submitter: Submitter) -> None:
        self._database = database
        self._doorbell = doorbell
        self._submitter = submitter

    def get(self, task_id: int) -> Row:
        """A task's row.

        Raises:
            NotFound: there is none.
        """
        return found(self._database.one("get_task", {"id": task_id}), "task", task_id)

    def events(self, task_id: int, after: int = 0) -> list[Row]:
        """A task's event log, oldest first, behind the event `after`; `NotFound` when there is no such task."""
        self.get(task_id)
        return self._database.all("task_events", {"id": task_id, "after": after})

    def profile(self, task_id: int) -> str:
        """The page of its last profiled attempt; `NotFound` when there is none."""
        return str(found(self._database.one("get_profile", {"id": task_id}), "profile of task", task_id)["page"])

    def cancel(self, task_id: int) -> Row:
        """Cancel a task: at once when it waits, within two seconds when it runs.

        Raises:
            NotFound: there is none.
            StateConflict: it has ended.
        """
        if not self._cancel({"ids": [task_id], "batch_id": None}):
            raise StateConflict(f"Task {task_id} is {self.get(task_id)['status']}: it has ended already.")
        return self.get(task_id)

    def retry(self, task_id: int) -> Row:
        """Run a failed or cancelled task again from its first attempt; raises like `cancel`.

        One that depends on tasks which have not completed waits for them again.
        """
        if broken := self._database.all("broken_parents", {"id": task_id}):
            parent = broken[0]
            raise StateConflict(
                f"Task {task_id} depends on task {parent['id']}, which is {parent['status']}: retry that one first."
            )
        rows = self._retry({"ids": [task_id], "batch_id": None})
        if not rows:
            raise StateConflict(
                f"Task {task_id} is {self.get(task_id)['status']}: only failed and cancelled tasks can be retried."
            )
        return rows[0]

    def retry_batch(self, batch_id: int) -> dict[str, Any]:
        """Run what failed of a batch again.

        Raises:
            NotFound: there is none.
            StateConflict: nothing of it has failed.
        """
        self.batch(batch_id)
        if not self._retry({"ids": [], "batch_id": batch_id}):
            raise StateConflict(f"Nothing of batch {batch_id} has failed.")
        return self.batch(batch_id)

    def _retry(self, which: dict[str, Any]) -> list[Row]:
        try:
            with self._database.transaction() as session:
                rows = session.all("retry_tasks", {**which, "sources": sources(Status.PENDING, TERMINAL)})
                hooks.run(session, rows)
        except Refused as error:
            raise StateConflict("Another task that has not finished has the same unique_key.") from error
        tell(self._doorbell.connection, rows)
        self._submitter.announce(rows)
        return rows

    def batch(self, batch_id: int) -> dict[str, Any]:
        """A batch with its counts by state; `NotFound` when there is none.

        Returns:
            `id`, `status`, `total`, `counts`, `progress` (0 to 100), `errors` (at most 100),
            `created_at`, `completed_at`.
        """
        with self._database.transaction() as session:
            batch = found(session.one("get_batch", {"id": batch_id}), "batch", batch_id)
            states = session.all("batch_counts", {"id": batch_id})
            errors = session.all("batch_errors", {"id": batch_id})
        return shown_batch(batch, states, errors)

    def cancel_batch(self, batch_id: int) -> dict[str, Any]:
        """Cancel what has not ended of a batch.

        Raises:
            NotFound: there is none.
            StateConflict: all its tasks have ended.
        """
        if self.batch(batch_id)["status"] == "COMPLETED":
            raise StateConflict(f"Batch {batch_id} has ended already.")
        self._database.all("cancel_batch", {"id": batch_id})
        self._cancel({"ids": [], "batch_id": batch_id})
        return self.batch(batch_id)

    def _cancel(self, which: dict[str, Any]) -> list[Row]:
        with self._database.transaction() as session:
            touched = session.all("cancel_tasks", {**which, "sources": sources(Status.CANCELLED)})
            cancelled = [row for row in touched if row["status"] == Status.CANCELLED]
            hooks.run(session, cancelled)
        tell(self._doorbell.connection, cancelled)
        try:
            self._doorbell.tell_to_cancel(touched)
        except RedisError as error:
            # The worker reads its cancel wishes with each beat, too.
            log.warning("cancel not signalled", tasks=len(touched), reason=str(error))
        self._submitter.followups.after(cancelled)
        return touched
