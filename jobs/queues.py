"""Redis and RQ: queues that carry task ids and nothing else, and what puts ids there.

An entry only rings: it does no harm when it is lost, doubled or late, because a worker claims the task
in PostgreSQL first. The RQ job beside an entry is a picture for RQ's tools; nothing is run from it.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, cast

import orjson
import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import RedisError
from redis.retry import Retry
from rq.command import send_command
from rq.job import Job
from rq.queue import Queue
from rq.serializers import JSONSerializer

from jobs.priority import QueueName
from jobs.setting_values import SENTINEL_SCHEMES, Sentinels, sentinels

CacheClient = redis.Redis
AsyncClient = redis.asyncio.Redis

__all__ = [
    "AsyncClient", "AsyncDoorbell", "CacheClient", "Doorbell", "Due", "RedisError", "TaskJob", "TaskQueue", "connect",
]  # fmt: skip

# redis-py has no types for these.
_parse_url: Any = parse_url
_Sentinel: Any = redis.sentinel.Sentinel
_AsyncSentinel: Any = redis.asyncio.sentinel.Sentinel

ENTRY_POINTS = frozenset({"jobs.entry.perform", "jobs.entry.fire"})
CLOCK_KEY = "rq:scheduler:scheduled_jobs"
_SCHEDULE = "schedule-"
CANCEL_COMMAND = "cancel-tasks"
LONGEST_WAIT_SECONDS = 5.0  # a ring can be lost with the worker that heard it
_CHUNK = 1000  # ids in one script call: keeps Redis answering others
_LUA = Path(__file__).parent / "lua"
_LIB = (_LUA / "lib.lua").read_text(encoding="utf-8")


class TaskJob(Job):
    """An RQ job that is read as JSON, never pickle, and runs nothing but our entry points."""

    def __init__(
        self,
        id: str | None = None,  # noqa: A002 - RQ's name for it
        connection: "redis.Redis | None" = None,
        serializer: object = None,
    ) -> None:
        super().__init__(id, connection=connection, serializer=JSONSerializer)

    def restore(self, raw_data: Any) -> None:
        """Read the stored job, leaving out everything that names other code or addresses to call."""
        super().restore(raw_data)
        self._success_callback_name = self._failure_callback_name = self._stopped_callback_name = None
        self.webhooks: list[Any] = []

    @property
    def func(self) -> Any:
        """The function to run.

        Raises:
            ValueError: the job names anything but our entry points.
        """
        if self.func_name not in ENTRY_POINTS:
            raise ValueError(f"refused to run {self.func_name!r}")
        return super().func


class TaskQueue(Queue):
    """An RQ queue of `TaskJob`s."""

    job_class = TaskJob

    def __init__(self, name: str = "default", connection: "redis.Redis | None" = None, **options: Any) -> None:
        super().__init__(name, connection=connection, **{**options, "serializer": JSONSerializer})


class Due(NamedTuple):
    """A task that is to be announced at a later time."""

    id: int
    queue: QueueName
    at: datetime


def script(*names: str) -> str:
    """The text of a Lua script made of these files, with what all share before them."""
    return _LIB + "".join((_LUA / f"{name}.lua").read_text(encoding="utf-8") for name in names)


def connect(url: str, *, timeout: float = 1) -> "redis.Redis":
    """A client for threads. Commands fail within seconds rather than hang."""
    # Once more on a connection that turns out to be closed, but not after waiting for an answer in vain.
    retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    options = {"retry": retry, **_options(url, timeout)}
    if not url.startswith(SENTINEL_SCHEMES):
        return redis.Redis.from_url(url, **options)
    found = sentinels(url)
    watching = _Sentinel(found.addresses, sentinel_kwargs=_to_sentinels(found))
    return cast(redis.Redis, watching.master_for(found.service, **_to_master(found), **options))


def connect_async(url: str, *, timeout: float = 5) -> "redis.asyncio.Redis":
    """The same for an event loop; `timeout` must exceed the longest blocking command."""
    retry = redis.asyncio.retry.Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    options = {"retry": retry, **_options(url, timeout)}
    if not url.startswith(SENTINEL_SCHEMES):
        return redis.asyncio.Redis.from_url(url, **options)
    found = sentinels(url)
    watching = _AsyncSentinel(found.addresses, sentinel_kwargs=_to_sentinels(found))
    return cast(redis.asyncio.Redis, watching.master_for(found.service, **_to_master(found), **options))


def _to_master(found: Sentinels) -> dict[str, Any]:
    """How to connect to the server that the sentinels name."""
    options = _parse_url(found.url)
    del options["host"]
    return {"ssl": options.pop("connection_class", None) is not None, **options}


def _to_sentinels(found: Sentinels) -> dict[str, Any]:
    """How to connect to the sentinels: like to the server, but for login and database."""
    options = _to_master(found)
    kept = {name: value for name, value in options.items() if name.startswith("ssl")}
    return {**kept, "password": found.sentinel_password, "socket_timeout": 1, "socket_connect_timeout": 1}


def _options(url: str, timeout: float) -> dict[str, Any]:
    # Without a word about it, redis-py's pools stop at 100 connections.
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "health_check_interval": 30,
        "max_connections": 1000,
    }
    if not url.startswith("unix:"):
        options |= {"socket_connect_timeout": min(timeout, 2), "socket_keepalive": True}
    return options


def timestamp() -> str:
    """Now, as RQ writes times."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


Entry = tuple[str, str, str, bool]
"""A waiting task as the scripts take it: id, pool, owner, and whether it comes before those that never began."""


def entry(task: Mapping[str, Any], *, is_first: bool = False) -> Entry:
    """Of a row with `id`, `pool`, `owner` and `status`; retries come first: they have waited before."""
    return str(task["id"]), task["pool"], task["owner"], is_first or task["status"] == "RETRYING"


class Doorbell:
    """Announces tasks. All methods raise `RedisError` when Redis cannot be reached."""

    def __init__(self, connection: "redis.Redis") -> None:
        self.connection = connection
        self._announce = connection.register_script(script("announce"))
        self._later = connection.register_script(script("later"))
        self._schedule = connection.register_script(script("schedule"))
        self._bury = connection.register_script(script("bury"))

    def announce(self, tasks: Iterable[Mapping[str, Any]]) -> None:
        """Have tasks (rows with `id`, `queue`, `pool`, `owner`, `status`) wait in their queues."""
        gathered: dict[QueueName, list[Entry]] = {}
        for task in tasks:
            gathered.setdefault(task["queue"], []).append(entry(task))
        for queue, entries in gathered.items():
            for chunk in _chunks(entries):
                self._announce(args=[timestamp(), queue, orjson.dumps(chunk)])

    def missing(self, places: Iterable[Mapping[str, Any]]) -> list[int]:
        """Ids of those tasks, by place (rows with `queue`, `pool` and `ids`), that do not wait in Redis."""
        missing: list[int] = []
        for place in places:
            for chunk in _chunks(place["ids"]):
                waiting = f"pressroom:waiting:{place['queue']}:{place['pool']}"
                turns = cast(list[object], self.connection.zmscore(waiting, chunk))
                missing += [task_id for task_id, turn in zip(chunk, turns, strict=True) if turn is None]
        return missing

    def announce_later(self, tasks: Iterable[Due]) -> None:
        """Have rq-scheduler's clock announce tasks when they are due."""
        for chunk in _chunks(list(tasks)):
            flat = itertools.chain.from_iterable((due.id, due.queue, due.at.timestamp()) for due in chunk)
            self._later(args=[timestamp(), *flat])

    def carry_schedules(self, slots: Mapping[int, float]) -> None:
        """Have the clock carry schedules' next slots (id -> Unix seconds), replacing what it had of them."""
        for chunk in _chunks(list(slots.items())):
            self._schedule(args=[timestamp(), *itertools.chain.from_iterable(chunk)])

    def carried_schedules(self, ids: Iterable[int]) -> dict[int, float]:
        """The slots of these schedules that the clock carries."""
        carried: dict[int, float] = {}
        for chunk in _chunks(list(ids)):
            names = [f"{_SCHEDULE}{schedule_id}" for schedule_id in chunk]
            slots = self.connection.zmscore(CLOCK_KEY, names)
            carried |= {schedule_id: slot for schedule_id, slot in zip(chunk, slots, strict=True) if slot is not None}
        return carried

    def drop_schedules(self, ids: Iterable[int]) -> None:
        """Have the clock forget schedules."""
        for chunk in _chunks([f"{_SCHEDULE}{schedule_id}" for schedule_id in ids]):
            self.connection.zrem(CLOCK_KEY, *chunk)
            self.connection.unlink(*(f"rq:job:{name}" for name in chunk))

    def tell_to_cancel(self, tasks: Iterable[Mapping[str, Any]]) -> None:
        """Signal the workers (rows with `id` and `worker`) that run tasks to drop them."""
        for worker, rows in itertools.groupby(
            sorted((task for task in tasks if task["worker"]), key=lambda task: str(task["worker"])),
            key=lambda task: task["worker"],
        ):
            send_command(self.connection, worker, CANCEL_COMMAND, task_ids=[row["id"] for row in rows])

    def bury(self, workers: Iterable[str]) -> None:
        """Have RQ's tools no longer show workers that are gone."""
        if names := list(workers):
            self._bury(args=names)

    def ping(self) -> bool:
        """Whether Redis answers."""
        return bool(self.connection.ping())


class Group(NamedTuple):
    """Tasks that waited in the same queue and pool."""

    queue: QueueName
    pool: str
    ids: list[int]


class Taken(NamedTuple):
    """What a worker got.

    Attributes:
        groups: tasks to start, in this order.
        again: seconds after which tasks that wait for their model may be there; None when there are none.
        pools: of which this worker is now taken to have calls in flight.
    """

    groups: list[Group]
    again: float | None
    pools: list[str]


class AsyncDoorbell:
    """A worker's side: takes ids off the queues, waits for the next one."""

    def __init__(self, url: str) -> None:
        self.client = connect_async(url)
        # Its own connection: a blocking command would hold up all others.
        self._blocking = connect_async(url, timeout=LONGEST_WAIT_SECONDS + 5).client()
        self._blocking_id: int | None = None
        self._take = self.client.register_script(script("limits", "take"))
        self._refused = self.client.register_script(script("limits", "refused"))

    async def take(self, wish: Mapping[str, Any]) -> Taken | None:
        """Tasks to start, as `wish` (see take.lua) allows; None while RQ is suspended."""
        answer = await self._take(args=[orjson.dumps(wish)])
        if answer is None:
            return None
        again, pools, tasks = answer
        groups = [Group(cast(QueueName, _text(queue)), _text(pool), parse_ids(ids)) for queue, pool, ids in tasks]
        return Taken(groups, float(again) if again else None, list(map(_text, pools)))

    async def refused(self, pool: str, worker: str, in_flight: int, wait: float | None) -> float:
        """A model's endpoint refused a call: nobody calls it for `wait` seconds; returns for how many."""
        return float(await self._refused(args=[pool, worker, in_flight, -1 if wait is None else wait]))

    async def wait(self, bells: Sequence[str], seconds: float) -> None:
        """Block until one of the bells (`QUEUE:LANE`) rings, for so long at most, or until woken."""
        self._blocking_id = await self._blocking.client_id()
        try:
            await self._blocking.blpop([f"pressroom:bell:{bell}" for bell in bells], timeout=seconds)
        finally:
            self._blocking_id = None

    async def wake(self) -> None:
        """End a `wait` early."""
        if self._blocking_id is not None:
            await self.client.client_unblock(self._blocking_id)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._blocking.aclose()
        await self.client.aclose()


def parse_ids(entries: Iterable[bytes]) -> list[int]:
    """Entries as task ids; whatever else somebody put there is dropped."""
    return [int(entry) for entry in entries if entry.isdigit() and len(entry) < 19]


def _text(value: "bytes | str") -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _chunks(items: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]
