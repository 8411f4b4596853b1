"""The one function that RQ jobs of Pressroom name."""


def perform(task_id: int) -> None:
    """What a stock RQ worker would call; Pressroom's own worker never does.

    Raises:
        RuntimeError: always. A queue entry only says that a task waits in PostgreSQL.
    """
    raise RuntimeError(f"task {task_id} needs Pressroom's worker (python -m jobs.worker), not RQ's")
