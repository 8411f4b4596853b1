"""From slots that have passed to executions, and from executions to tasks.

A unique (schedule, slot) row makes each slot fire once, however many processes look; and an execution's
whole work, its tasks included, is one transaction with its outcome, so that it is never half done.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog
from marshmallow import Schema, ValidationError

from jobs.errors import TooManyPending, Unavailable
from jobs.handlers.registry import TaskType
from jobs.secrets import clean
from jobs.store.database import Database, Json, Row, Session
from jobs.submit import Submitter
from scheduler.executors import EXECUTORS
from scheduler.executors.registry import Executor, Firing
from scheduler.planner import Verdict, plan

log = structlog.get_logger(__name__)

_LIMIT = 200  # schedules looked at in one transaction


class Firer:
    """Notes what is due and fires it."""

    def __init__(self, database: Database, submitter: Submitter, types: Mapping[str, TaskType]) -> None:
        self._database = database
        self._submitter = submitter
        self._types = types
        self._schemas: dict[str, Schema] = {}

    def has_work(self, late: float = 0.0) -> bool:
        """Whether there may be anything to note or to fire."""
        return bool(self._database.all("has_firings", {"late": late})[0]["answer"])

    def note_due(self, late: float = 0.0) -> dict[int, datetime | None]:
        """Make execution rows for all slots that have passed by `late` seconds.

        Returns:
            The schedules looked at, each with its next slot.
        """
        following: dict[int, datetime | None] = {}
        while True:
            with self._database.transaction() as session:
                due = session.all("due_schedules", {"late": late, "limit": _LIMIT, "id": None})
                following |= note_slots(session, due)
            if len(due) < _LIMIT:
                return following

    def ready(self, limit: int) -> list[int]:
        """Executions that wait to be fired."""
        return [row["id"] for row in self._database.all("ready_executions", {"limit": limit})]

    def fire(self, ids: Sequence[int]) -> None:
        """Do the work of pending executions, leaving out those that another process is at.

        Raises:
            Unavailable: nothing of it was stored; they stay pending.
        """
        try:
            self._fire(ids)
        except Unavailable:
            raise
        except Exception as error:
            # What cannot even be recorded as it is must neither stop the others nor be tried for ever.
            log.exception("firing failed", executions=list(ids))
            if len(ids) > 1:
                for execution_id in ids:
                    self.fire([execution_id])
                return
            outcome = _failed("executor_error", f"The firing raised {type(error).__name__}.")
            with self._database.transaction() as session:
                for execution in session.all("take_executions", {"ids": list(ids)}):
                    _finish(session, execution, outcome)

    def _fire(self, ids: Sequence[int]) -> None:
        submitted: list[Row] = []
        with self._database.transaction() as session:
            for execution in session.all("take_executions", {"ids": list(ids)}):
                began = time.monotonic()
                firing = Firing(session, self._submitter, execution)
                outcome = self._run(execution, firing)
                if outcome["result"]:
                    outcome["result"]["duration"] = round(time.monotonic() - began, 3)
                _finish(session, execution, outcome)
                submitted += firing.submitted
                late = (execution["began"] - execution["scheduled_for"]).total_seconds()
                log.info(
                    "fired", schedule_id=execution["schedule_id"], execution_id=execution["id"],
                    status=outcome["status"], tasks=len(firing.submitted), late=round(late, 3),
                )  # fmt: skip
        self._submitter.announce(submitted)

    def check_room(self, session: Session, name: str) -> None:
        """Raises `TooManyPending` when an executor is not to fire now: what is refused is seen, what waits piles up."""
        executor = EXECUTORS.get(name)
        if executor and not executor.is_upkeep:
            self._submitter.room.take(session, 1)

    def _schema_of(self, executor: Executor) -> Schema:
        """Made once: making a schema costs more than a small firing."""
        if executor.name not in self._schemas:
            self._schemas[executor.name] = executor.params_schema(self._types)
        return self._schemas[executor.name]

    def _run(self, execution: Row, firing: Firing) -> dict[str, Any]:
        """The executor's result, or why it failed; then nothing it did is kept."""
        executor = EXECUTORS.get(execution["task_type"])
        if executor is None:
            return _failed("unknown_executor", f"There is no executor {execution['task_type']!r} here.")
        try:
            firing.params = dict(self._schema_of(executor).load(execution["params"]))
        except ValidationError as error:
            return _failed("invalid_params", f"The parameters do not fit: {error.messages}")
        try:
            self.check_room(firing.session, executor.name)
            with firing.session.savepoint():
                result = executor.run(firing)
        except TooManyPending as error:
            return _failed("too_many_pending", str(error))
        except Unavailable:
            raise
        except Exception as error:
            log.exception("executor raised", execution_id=execution["id"], executor=execution["task_type"])
            firing.submitted.clear()
            return _failed("executor_error", f"The executor raised {type(error).__name__}.")
        if not result["success"]:
            problem = {"code": "nothing_submitted", "message": "No task could be submitted."}
            return {"status": "FAILED", "result": result, "error": problem}
        return {"status": "COMPLETED", "result": result, "error": None}


def note_slots(session: Session, due: list[Row]) -> dict[int, datetime | None]:
    """Make execution rows for the slots that have passed of schedules (rows of `due_schedules`); their next slots."""
    documents: list[dict[str, Any]] = []
    progress: list[dict[str, Any]] = []
    for schedule in due:
        verdicts, following = _plan(schedule)
        fired = [verdict.slot for verdict in verdicts if verdict.reason is None]
        documents += [
            {
                **execution_of(schedule, "schedule"),
                "scheduled_for": verdict.slot,
                "status": "SKIPPED" if verdict.reason else "PENDING",
                "reason": verdict.reason,
                "detail": verdict.detail,
            }
            for verdict in verdicts
        ]
        progress.append({"id": schedule["id"], "next_slot": following, "last_run_at": fired[-1] if fired else None})
    if due:
        session.all("insert_executions", {"documents": Json(documents)})
        session.all("advance_schedules", {"documents": Json(progress)})
    return {schedule["id"]: schedule["next_slot"] for schedule in progress}


def execution_of(schedule: Mapping[str, Any], trigger: str) -> dict[str, Any]:
    """What an execution remembers of its schedule."""
    return {
        "schedule_id": schedule["id"],
        "schedule_name": schedule["name"],
        "task_type": schedule["task_type"],
        "params": schedule["params"],
        "timezone": schedule["timezone"],
        "trigger": trigger,
    }


def _plan(schedule: Row) -> tuple[list[Verdict], datetime | None]:
    """`plan`; a schedule whose facts have become impossible stops, and must not stop the others."""
    try:
        return plan(schedule, schedule["now"])
    except (ValueError, LookupError, OSError, OverflowError) as error:
        log.exception("schedule stopped", schedule_id=schedule["id"])
        return [Verdict(schedule["next_slot"], "impossible", f"Its times cannot be computed: {error}")], None


def _finish(session: Session, execution: Row, outcome: Mapping[str, Any]) -> None:
    session.all(
        "finish_execution",
        {
            "id": execution["id"],
            "started_at": execution["began"],
            "status": outcome["status"],
            "result": Json(outcome["result"]) if outcome["result"] else None,
            "error": Json(outcome["error"]) if outcome["error"] else None,
        },
    )


def _failed(code: str, message: str) -> dict[str, Any]:
    return {"status": "FAILED", "result": None, "error": {"code": code, "message": clean(message)}}
