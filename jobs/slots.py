"""Which queue may take how many of a worker's slots. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence

from jobs.pools import Mode
from jobs.priority import QueueName


class SlotBudget:
    """Counts the slots in use and says how many more each queue may have.

    A queue's share is the largest part of all slots that it *and everything less urgent* may hold
    together, so what is left over is always free for more urgent work: with shares high=1.0,
    default=0.9, low=0.7 and 100 slots, `low` never holds more than 70, `low` and `default` never
    more than 90, and 10 are kept for `high` alone. Shares count relative to that of the most urgent
    queue the worker drains: a worker for `low` alone uses all of its slots.
    """

    def __init__(self, capacity: int, queues: Sequence[QueueName], shares: Mapping[QueueName, float]) -> None:
        self.capacity = capacity
        self.queues = tuple(queues)
        # A share is worth at least one slot, or a small worker would starve that queue.
        self._limits = {name: max(1, round(capacity * shares[name] / shares[queues[0]])) for name in queues}
        self._used: Counter[QueueName] = Counter()

    @property
    def used(self) -> int:
        """Slots in use, over all queues."""
        return self._used.total()

    def room(self) -> dict[QueueName, int]:
        """How many tasks each queue may start now, were it the only one to start any."""
        free = self.capacity - self.used
        held = 0
        room: dict[QueueName, int] = {}
        for name in reversed(self.queues):  # least urgent first
            held += self._used[name]
            room[name] = max(0, min(free, self._limits[name] - held))
        return {name: room[name] for name in self.queues}

    def occupy(self, queue: QueueName, count: int = 1) -> None:
        """Take slots for tasks of `queue`."""
        self._used[queue] += count

    def release(self, queue: QueueName, count: int = 1) -> None:
        """Give slots back."""
        self._used[queue] -= count


Slots = Mapping[Mode, SlotBudget]
"""Each lane's own."""
