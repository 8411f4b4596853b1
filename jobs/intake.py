"""Takes task ids off the queues while there is room, and claims the tasks."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, chain
from typing import Final

import structlog

from jobs.attempt import Claim
from jobs.errors import Unavailable
from jobs.lifecycle import CLAIMABLE, Status, sources
from jobs.pools import Mode, Pools, lane_of
from jobs.priority import QueueName
from jobs.queues import LONGEST_WAIT_SECONDS, AsyncDoorbell, Group, RedisError, Taken
from jobs.slots import Slots
from jobs.store.database import AsyncDatabase, Row

log = structlog.get_logger(__name__)

STARVED_SECONDS: Final = 10.0
"""A queue with waiting tasks gets its share of each lane at least this often, however busy the more urgent ones are."""

_AT_ONCE: Final = 64
"""Tasks of a lane in one round. More would start together, end together, and keep each other waiting ever after."""

_CLAIMS: Final = 2  # under way at the same time, as long as rounds are full
_STARVED_SHARE: Final = 0.05  # of the slots, at least one
_GATHER_SECONDS: Final = 0.002  # lets several slots become free before the next round trip
_REPORT_SECONDS: Final = 0.25  # within which other workers learn that calls of a model have ended
_SUSPENDED_SECONDS: Final = 1.0
_PAUSES: Final = (0.1, 0.5, 1.0, 2.0)  # between tries while Redis or PostgreSQL is away
_SOURCES = sources(Status.PROCESSING, CLAIMABLE)

Rooms = Mapping[Mode, Mapping[QueueName, int]]
"""Of each lane with a free slot, how many tasks each queue may start, the most urgent queue first."""


class _Share:
    """The slots of a lane that a queue with waiting tasks gets in a while."""

    def __init__(self, size: int, now: float) -> None:
        self._size = size
        self.renew(now)

    def renew(self, now: float) -> None:
        """It had all of it, or had no use for it: from now on it gets as much again."""
        self.since, self.left = now, self._size

    def take(self, count: int, now: float) -> None:
        """It got so many."""
        self.left -= count
        if self.left <= 0:
            self.renew(now)


class Intake:
    """Keeps the slots of all lanes filled, most urgent queue first, until told to stop."""

    def __init__(
        self,
        database: AsyncDatabase,
        doorbell: AsyncDoorbell,
        slots: Slots,
        pools: Pools,
        worker: str,
        start: Callable[[Claim], None],
        back: Callable[[Row], None],
        moved: Callable[[Sequence[Row]], None],
    ) -> None:
        self.worker_id: int | None = None
        self.suspended = False
        self._database = database
        self._doorbell = doorbell
        self._slots = slots
        self._pools = pools
        self._worker = worker
        self._start = start
        self._back = back
        self._moved = moved
        self._stopping = False
        self._failures = 0
        self._changed = asyncio.Event()
        self._claims: set[asyncio.Task[None]] = set()
        self._shares = {
            (lane, queue): _Share(max(1, int(budget.capacity * _STARVED_SHARE)), time.monotonic())
            for lane, budget in slots.items()
            for queue in budget.queues
        }

    def slot_freed(self) -> None:
        """A task ended: there may be room for another."""
        self._changed.set()

    def stop(self) -> None:
        """Take no more tasks."""
        self._stopping = True
        self._changed.set()

    async def sign_off(self) -> None:
        """Tell the other workers what has ended here since the last round, which they would hear of much later.

        Raises:
            RedisError: they cannot be told.
        """
        await self._doorbell.take({"worker": self._worker, "lanes": {}, "first": {}, **self._pools.report()})

    async def run(self) -> None:
        """Take, claim and start tasks until `stop`."""
        try:
            while not self._stopping or self._claims:
                try:
                    await (self._few_claims(0) if self._stopping else self._round())
                except (RedisError, Unavailable, OSError) as error:
                    pause = _PAUSES[min(self._failures, len(_PAUSES) - 1)]
                    self._failures += 1
                    log.warning("cannot take tasks, trying again", reason=str(error), pause=pause)
                    await asyncio.sleep(pause)
        finally:
            for claim in self._claims:
                claim.cancel()

    async def _round(self) -> None:
        self._changed.clear()
        rooms = self._rooms()
        if not rooms:
            await self._changed.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            return
        wish = {
            "worker": self._worker,
            "lanes": {lane: list(room.items()) for lane, room in rooms.items()},
            "first": self._starved(rooms),
            **self._pools.report(),
        }
        taken = await self._doorbell.take(wish)
        self.suspended = taken is None
        self._pools.known(taken.pools if taken else ())
        if taken is None:  # by `rq suspend`
            await asyncio.sleep(_SUSPENDED_SECONDS)
            return
        self._note_shares(rooms, taken)
        if taken.groups:
            self._expect(taken.groups, 1)
            self._claims.add(asyncio.create_task(self._claim(taken.groups)))
            is_full = sum(len(group.ids) for group in taken.groups) >= _AT_ONCE
            await self._few_claims(_CLAIMS - 1 if is_full else 0)
        else:
            self._failures = 0
            await self._wait(rooms, taken.again)

    def _rooms(self) -> Rooms:
        rooms = {
            lane: {queue: min(room, _AT_ONCE) for queue, room in slots.room().items()}
            for lane, slots in self._slots.items()
        }
        return {lane: room for lane, room in rooms.items() if any(room.values())}

    def _starved(self, rooms: Rooms) -> dict[Mode, list[tuple[QueueName, int]]]:
        """How many slots of each lane queues get before all others, as they did not get their share there for long.

        Who has waited longest comes first: where tasks take long, even the most urgent queue is among them.
        """
        latest = time.monotonic() - STARVED_SECONDS
        starved: dict[Mode, list[tuple[QueueName, int]]] = {}
        for lane, room in rooms.items():
            shares = [(queue, self._shares[lane, queue]) for queue in room]
            late = [(queue, share) for queue, share in shares if share.since <= latest]
            if late:
                late.sort(key=lambda found: found[1].since)
                starved[lane] = [(queue, share.left) for queue, share in late]
        return starved

    def _note_shares(self, rooms: Rooms, taken: Taken) -> None:
        """Note which queues got slots of which lane, or have nothing waiting that would take one."""
        now = time.monotonic()
        started: Counter[Mode] = Counter()
        for queue, pool, ids in taken.groups:
            lane = lane_of(pool)
            started[lane] += len(ids)
            self._shares[lane, queue].take(len(ids), now)
        if taken.again is not None:
            return  # something waits that may not start yet, of whichever queue
        for lane, room in rooms.items():
            # As in take.lua: what was started counts against the room of the more urgent queues, too.
            for queue, most in zip(room, accumulate(room.values(), min), strict=True):
                if started[lane] < most:
                    self._shares[lane, queue].renew(now)

    async def _wait(self, rooms: Rooms, again: float | None) -> None:
        """Until a bell rings, there is room in more queues, or a model may be called again."""
        deadline = time.monotonic() + min(LONGEST_WAIT_SECONDS, again or LONGEST_WAIT_SECONDS)
        bells = _bells(rooms)
        waiting = asyncio.ensure_future(self._doorbell.wait(bells, max(0.001, deadline - time.monotonic())))
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            while not waiting.done():
                left = deadline - time.monotonic()
                await asyncio.wait({waiting, changed}, timeout=max(0.0, left), return_when=asyncio.FIRST_COMPLETED)
                if waiting.done():
                    break
                if changed.done():
                    await asyncio.sleep(_GATHER_SECONDS)
                    self._changed.clear()
                    changed = asyncio.ensure_future(self._changed.wait())
                    if self._pools.has_news:
                        # Who waits for this model, here or elsewhere, should know.
                        deadline = min(deadline, time.monotonic() + (0.0 if again else _REPORT_SECONDS))
                if self._stopping or time.monotonic() >= deadline or _bells(self._rooms()) != bells:
                    await self._end(waiting)
            await waiting
        finally:
            changed.cancel()

    async def _end(self, waiting: "asyncio.Future[None]") -> None:
        """Have the blocking command return."""
        while not waiting.done():
            await self._doorbell.wake()
            await asyncio.wait({waiting}, timeout=_GATHER_SECONDS)

    async def _few_claims(self, most: int) -> None:
        """Wait until no more claims than these are under way; raises what became of those that ended."""
        while len(self._claims) > most:
            done, self._claims = await asyncio.wait(self._claims, return_when=asyncio.FIRST_COMPLETED)
            errors = [error for claim in done if (error := claim.exception())]
            for error in errors[:1]:
                raise error

    def _expect(self, groups: Sequence[Group], sign: int) -> None:
        """What is being claimed holds its slots already, and counts as in flight; with -1, no longer."""
        for queue, pool, ids in groups:
            self._slots[lane_of(pool)].occupy(queue, sign * len(ids))
            self._pools.coming(pool, sign * len(ids))

    async def _claim(self, groups: Sequence[Group]) -> None:
        ids = list(chain.from_iterable(group.ids for group in groups))
        try:
            rows = await self._database.all(
                "claim_tasks",
                {"ids": ids, "sources": _SOURCES, "worker_id": self.worker_id, "worker": self._worker},
            )
        except BaseException:
            # They wait nowhere now. Should they be claimed all the same, a second entry does no harm. Whose they are
            # does not matter at the front of a queue.
            for queue, pool, group in groups:
                for task_id in group:
                    self._back({"id": task_id, "queue": queue, "pool": pool, "owner": ""})
            raise
        finally:
            self._expect(groups, -1)
            self._changed.set()
        self._failures = 0
        # The database returns them in the order of ids; the queues' order is the one to start in.
        position = {task_id: place for place, task_id in enumerate(ids)}
        for row in sorted(rows, key=lambda row: position[row["id"]]):
            self._start(Claim.from_row(row))
        self._moved(rows)


def _bells(rooms: Rooms) -> list[str]:
    """The bells to wait for, the most urgent queues' first."""
    queues = list(next(iter(rooms.values()), {}))
    return [f"{queue}:{lane}" for queue in queues for lane, room in rooms.items() if room[queue] > 0]
