"""Priorities (1 to 10, 10 most urgent) and the queues they map to. Pure."""

from typing import Final, Literal, get_args

QueueName = Literal["high", "default", "low"]

QUEUES: Final[tuple[QueueName, ...]] = get_args(QueueName)
"""All queues, most urgent first: the order in which workers drain them."""

DEFAULT_PRIORITY: Final = 5
MIN_PRIORITY: Final = 1
MAX_PRIORITY: Final = 10


def queue_for(priority: int) -> QueueName:
    """The queue that carries tasks of `priority`.

    Raises:
        ValueError: outside 1 to 10.
    """
    if not MIN_PRIORITY <= priority <= MAX_PRIORITY:
        raise ValueError(f"priority {priority} is not between {MIN_PRIORITY} and {MAX_PRIORITY}")
    if priority >= 8:
        return "high"
    return "default" if priority >= 4 else "low"
