"""What is worth an alert. A new rule is an entry here and its statement in jobs/store/sql/alerts.sql."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Level = Literal["info", "warning", "error", "critical"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A kind of problem.

    Attributes:
        statement: finds the problems, a row each, with its `subject`; None: it is not found in the database.
        title, message: formats, filled in with the row's columns.
        is_event: it happened, and is over: the statement looks between `since` and `until`. Else it lasts as long
            as the statement finds it.
    """

    name: str
    level: Level
    title: str
    message: str
    statement: str | None = None
    is_event: bool = False

    def words(self, row: Mapping[str, Any]) -> dict[str, str]:
        """`rule`, `subject`, `level`, `title` and `message` of a problem."""
        return {
            "rule": self.name,
            "subject": str(row["subject"]),
            "level": self.level,
            "title": self.title.format_map(row),
            "message": self.message.format_map(row),
        }


RULES: Final = (
    Rule(
        "queue_too_old",
        "warning",
        "Queue {subject} is too old",
        "Tasks that wait for long: {waiting}, the oldest one for {age} s.",
        "find_old_queues",
    ),
    Rule(
        "schedule_overdue",
        "error",
        "Schedules do not fire",
        "Overdue: {count}, the first one for {age} s: {names}.",
        "find_overdue_schedules",
    ),
    Rule("backup_failed", "error", "The backup failed", "Task {id}: {reason}", "find_failed_backup"),
    Rule(
        "task_failed",
        "error",
        "Tasks failed for good: {count}",
        "{kinds}. The newest is task {newest}.",
        "find_failed_tasks",
        is_event=True,
    ),
    Rule(
        "worker_lost",
        "error",
        "Processes stopped beating: {count}",
        "{names}. What they held goes to others.",
        "find_lost_workers",
        is_event=True,
    ),
    Rule(
        "schedule_missed",
        "warning",
        "Slots of schedules were missed: {count}",
        "{names}, from {earliest:%Y-%m-%d %H:%M:%S} UTC on; skipped as their misfire policies say.",
        "find_missed_slots",
        is_event=True,
    ),
)
REDIS_AWAY: Final = Rule(
    "redis_unreachable",
    "critical",
    "Redis cannot be reached",
    "New tasks are accepted, but workers do not hear of them.",
)
DATABASE_AWAY: Final = Rule(
    "database_unreachable",
    "critical",
    "The database cannot be reached",
    "No task can be accepted or recorded.",
)
EVERY: Final = (*RULES, REDIS_AWAY, DATABASE_AWAY)
