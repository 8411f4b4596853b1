"""What must be true of the database and of Redis: at any time, and at the end."""

import re
from collections import Counter
from collections.abc import Iterator

from tests.gauntlet.clients import Notes
from tests.gauntlet.cluster import Cluster

# Each finds what must not be.
_STANDING = {
    "more attempts than allowed": "SELECT id, attempt, max_retries FROM tasks WHERE attempt > max_retries + 1",
    "completed twice": "SELECT task_id FROM task_events WHERE to_status = 'COMPLETED' GROUP BY 1 HAVING count(*) > 1",
    "a transition that does not begin where the last one ended": """
        SELECT task_id, was, from_status, to_status FROM (
            SELECT *, lag(to_status) OVER (PARTITION BY task_id ORDER BY id) AS was FROM task_events
        ) AS e WHERE from_status IS DISTINCT FROM was AND from_status <> to_status""",
    "moved on after its end": """
        SELECT task_id, from_status, to_status FROM task_events
        WHERE from_status IN ('COMPLETED', 'FAILED', 'CANCELLED')""",
    "a state that is not its last event's": """
        SELECT t.id, t.status, e.to_status FROM tasks AS t, LATERAL (
            SELECT to_status FROM task_events WHERE task_id = t.id ORDER BY id DESC LIMIT 1) AS e
        WHERE t.status <> e.to_status""",
    "half a batch": """
        SELECT b.id, b.total, count(t.id) FROM batches AS b LEFT JOIN tasks AS t ON t.batch_id = b.id
        GROUP BY b.id HAVING count(t.id) <> b.total""",
    "two executions of one slot": """
        SELECT schedule_id, scheduled_for FROM executions WHERE trigger = 'schedule'
        GROUP BY 1, 2 HAVING count(*) > 1""",
    "an execution without exactly its task": """
        SELECT e.id, e.status, count(t.id) FROM executions AS e LEFT JOIN tasks AS t ON t.execution_id = e.id
        GROUP BY e.id HAVING count(t.id) <> (CASE WHEN e.status = 'COMPLETED' THEN 1 ELSE 0 END)""",
    "a result without completion, or the other way round": """
        SELECT id, status FROM tasks WHERE (status = 'COMPLETED') <> (result IS NOT NULL)""",
}  # fmt: skip

_AT_THE_END = {
    "a slot that nobody accounted for": """
        SELECT schedule_id, was, scheduled_for FROM (
            SELECT e.*, s.interval, lag(scheduled_for) OVER (PARTITION BY schedule_id ORDER BY scheduled_for) AS was
            FROM executions AS e JOIN schedules AS s ON s.id = e.schedule_id
            WHERE s.interval_unit = 'seconds' AND trigger = 'schedule'
        ) AS e WHERE scheduled_for - was <> interval * interval '1 second'""",
    "an answer kept for a completed task": """
        SELECT task_id FROM answers JOIN tasks ON id = task_id WHERE status = 'COMPLETED'""",
    "a batch that is not closed": "SELECT id FROM batches WHERE completed_at IS NULL",
    "an execution that failed": "SELECT id, error FROM executions WHERE status = 'FAILED'",
}

_REGISTERS = re.compile(rb"rq:(queues|workers(:\w+)?|scheduler:scheduled_jobs)\Z")


def standing(cluster: Cluster) -> Iterator[str]:
    """What is wrong now, whatever goes on."""
    yield from _found(cluster, _STANDING)


def _found(cluster: Cluster, questions: dict[str, str]) -> Iterator[str]:
    for what, question in questions.items():
        if rows := cluster.rows(question):
            yield f"{what}: {len(rows)}, such as {rows[:3]}"


def at_the_end(cluster: Cluster, notes: Notes) -> Iterator[str]:
    """What is wrong once nothing is under way any more."""
    yield from _found(cluster, _STANDING | _AT_THE_END)
    yield from _promises(cluster, notes)
    for batch_id, total in notes.batches:
        counts = cluster.rows("SELECT status, count(*) FROM tasks WHERE batch_id = %(id)s GROUP BY 1", id=batch_id)
        if sum(count for _, count in counts) != total:
            yield f"batch {batch_id} of {total} has {counts}"
    tags = Counter(_tag_of(row) for row in cluster.rows("SELECT prompt, input FROM tasks"))
    if doubled := [tag for tag in notes.keyed if tags[tag] != 1]:
        yield f"not exactly one task for an Idempotency-Key: {len(doubled)}, such as {doubled[:3]}"


def _tag_of(row: tuple[str | None, dict[str, str]]) -> str | None:
    found = re.search(r"tag-\d+-\d+", f"{row[0]} {row[1]}")
    return found[0] if found else None


def _promises(cluster: Cluster, notes: Notes) -> Iterator[str]:
    rows = {row[0]: row[1:] for row in cluster.rows("SELECT id, status, result, error, attempt FROM tasks")}
    for promise in notes.promises:
        if promise.id not in rows:
            yield f"task {promise.id} is lost"
            continue
        status, result, error, attempt = rows[promise.id]
        if status not in promise.ends:
            yield f"task {promise.id} ({promise.tag}) is {status}, attempt {attempt}: {error}"
        elif status == "COMPLETED" and any(result.get(name) != said for name, said in promise.result.items()):
            yield f"task {promise.id} ({promise.tag}) has another's result: {result}"
        elif status == "FAILED" and error["code"] != "worker_lost":
            yield f"task {promise.id} ({promise.tag}) failed with {error}"


def leaks(cluster: Cluster) -> list[bytes]:
    """Keys in Redis that never expire, but for registers; and tasks that it still thinks are waiting."""
    client = cluster.redis
    keys: list[bytes] = list(client.scan_iter(count=1000))
    forever = [key for key in keys if client.ttl(key) == -1 and not _REGISTERS.match(key)]
    return forever + [key for key in keys if key.startswith((b"pressroom:waiting:", b"rq:queue:"))]
