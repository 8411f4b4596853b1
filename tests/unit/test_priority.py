"""Priorities 1 to 10 map to three queues."""

import pytest

from jobs.priority import queue_for


@pytest.mark.parametrize(
    ("priority", "queue"),
    [(1, "low"), (3, "low"), (4, "default"), (5, "default"), (7, "default"), (8, "high"), (10, "high")],
)
def test_each_priority_has_its_queue(priority: int, queue: str) -> None:
    assert queue_for(priority) == queue


@pytest.mark.parametrize("priority", [0, -1, 11])
def test_others_are_refused(priority: int) -> None:
    with pytest.raises(ValueError, match="not between 1 and 10"):
        queue_for(priority)
