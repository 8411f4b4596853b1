"""The functions that RQ jobs of Pressroom name."""


def perform(task_id: int) -> None:
    """What a stock RQ worker would call; Pressroom's own worker never does.

    Raises:
        RuntimeError: always. A queue entry only says that a task waits in PostgreSQL.
    """
    raise RuntimeError(f"task {task_id} needs Pressroom's worker (python -m jobs.worker), not RQ's")


def fire(schedule_id: int) -> None:
    """What would be called for a schedule's entry; Pressroom's own scheduler never does.

    Raises:
        RuntimeError: always. An entry only says when to look into PostgreSQL.
    """
    raise RuntimeError(f"schedule {schedule_id} needs Pressroom's scheduler (python -m scheduler), not RQ's")
