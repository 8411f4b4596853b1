"""The worker: an RQ worker that keeps many tasks in flight in one process, on one event loop.

RQ's `BaseWorker` gives it the names, keys and commands that `rq info`, `rq suspend` and rq-dashboard
know; RQ's own work loop, one job at a time, is replaced. `python -m jobs.worker` starts one.
"""

import asyncio
import faulthandler
import gc
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

import structlog
import uvloop
from rq import worker_registration
from rq.worker import BaseWorker

from jobs import hooks, logs, settings
from jobs.aftermath import Aftermath
from jobs.answers import Keeper
from jobs.attempt import Lanes
from jobs.attendant import Attendant
from jobs.beats import BEAT_SECONDS, STOP_SECONDS
from jobs.commands import Commands
from jobs.deliverer import Deliverer
from jobs.errors import SettingsError, Unavailable
from jobs.flight import Flight
from jobs.handlers import registry
from jobs.handlers.context import Tools
from jobs.intake import Intake
from jobs.lanes.processes import Processes
from jobs.lanes.threads import Threads
from jobs.ledger import Ledger, Run
from jobs.lifecycle import Status
from jobs.live import LIVE_SECONDS, Live
from jobs.pools import Mode, Pools
from jobs.priority import QUEUES
from jobs.prompts import Prompts
from jobs.providers import catalog
from jobs.quarantine import Quarantine
from jobs.queues import AsyncDoorbell, RedisError, TaskJob, TaskQueue, connect
from jobs.recorder import Recorder
from jobs.settings import Settings
from jobs.slots import SlotBudget
from jobs.store.database import AsyncDatabase, Row

log = structlog.get_logger(__name__)

_LEDGER_SECONDS = 0.1
_START_PAUSE_SECONDS = 0.5
_MIND_SECONDS = 0.25
_REDIS_TTL = 20  # seconds without a beat after which RQ's tools no longer show the worker
_HAND_BACK_SECONDS = 3.0  # of the grace period, kept for handing back and signing off
_OVERTIME_SECONDS = 2.0
_HANG_SECONDS = 30.0
_CANCELLATIONS = 5
_INTAKE_SECONDS = 2.0  # for an id that is just being taken


class TaskWorker(BaseWorker):
    """One worker process."""

    job_class = TaskJob
    queue_class = TaskQueue

    def __init__(self, configured: Settings) -> None:
        name = f"{socket.gethostname().partition('.')[0]}-{os.getpid()}-{uuid4().hex[:6]}"
        super().__init__(
            list(configured.worker_queues),
            name=name,
            connection=connect(configured.redis_url),
            worker_ttl=_REDIS_TTL,
        )
        self._settings = configured
        self._types = registry.load(configured.handler_modules)
        self._database = AsyncDatabase(configured.database_url, max_size=4)
        sizes: dict[Mode, int] = {
            "coroutine": configured.worker_concurrency,
            "thread": configured.worker_threads,
            "process": configured.worker_processes,
        }
        self._slots = {
            lane: SlotBudget(size, configured.worker_queues, configured.queue_shares) for lane, size in sizes.items()
        }
        self._capacity = sum(sizes.values())
        self._strays: set[Run] = set()
        self._worker_id: int | None = None
        self._last_beat = time.monotonic()

    def _set_ip_address(self, connection: Any) -> None:
        """Left for later: RQ asks Redis for it at once, when Redis may not be there yet."""
        self.ip_address = "unknown"

    def work(self, *_: Any, **__: Any) -> bool:
        """Serve until SIGTERM or SIGINT; what is then unfinished at the end of the grace period is handed back."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())
        return True

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_soon)
        self._providers = catalog.build(self._settings)
        self._doorbell = AsyncDoorbell(self._settings.redis_url)
        self._ledger = Ledger(self._doorbell.client, self.name, _REDIS_TTL)
        self._live = Live(self._doorbell.client, self._database)
        self._aftermath = Aftermath(self._settings.database_url, self.connection)
        self._recorder = Recorder(self._database, self.name, self._recorded)
        self._deliverer = Deliverer(self._settings)
        hooks.listen()(self._deliverer.notice)
        self._pools = Pools(catalog.rules(self._settings))
        self._threads = Threads()
        self._processes = Processes(self._settings.worker_process_memory_mb)
        self._quarantine = Quarantine(self._database)
        prompts = Prompts(self._settings.prompts_dir)
        attendant = Attendant(self._database, self._doorbell, self._pools, self.name)
        keeper = self._keeper = Keeper(self._database)
        tools = Tools(self._settings, self._database, self._providers, prompts, keeper, attendant.refused)
        lanes = Lanes(self._types, tools, self._live, self._threads, self._processes, self._quarantine, attendant)
        self._flight = Flight(self._slots, self._pools, self._ledger, self._recorder, lanes, self._live.ended)
        self._intake = Intake(
            self._database, self._doorbell, self._slots, self._pools, self.name,
            self._flight.start, self._ledger.back, self._live.moved,
        )  # fmt: skip
        self._flight.on_landing = self._intake.slot_freed
        self._commands = Commands(
            self._doorbell.client, self._database, self.pubsub_channel_name, self._flight.cancel_here_or_coming,
            self._stop_soon,
        )  # fmt: skip
        async with self._database.opened():
            try:
                await self._until_ready()
                if not self._stopping.is_set():
                    await self._run_loops()
            finally:
                await self._processes.close()
                self._aftermath.close()
                await self._providers.aclose()
                await self._doorbell.aclose()

    def _stop_soon(self) -> None:
        self._stopping.set()
        # Whatever hangs then, the process ends; what it held is recovered by the others.
        last_moment = self._settings.shutdown_grace_seconds + _OVERTIME_SECONDS
        asyncio.get_running_loop().call_later(last_moment, os._exit, 1)

    async def _until_ready(self) -> None:
        """Register in Redis and PostgreSQL, however long that takes."""
        while not self._stopping.is_set():
            try:
                if self.birth_date is None:
                    # A path with a space confuses redis-py's reading of the address; it is only shown.
                    with suppress(ValueError):
                        super()._set_ip_address(self.connection)
                    self.register_birth()
                await self._register()
            except (RedisError, Unavailable) as error:
                log.warning("waiting for the database and Redis", reason=str(error))
                await asyncio.sleep(_START_PAUSE_SECONDS)
            else:
                log.info("worker ready", worker=self.name, queues=self.queue_names(), slots=self._capacity)
                return

    async def _run_loops(self) -> None:
        background = [
            asyncio.create_task(loop)
            for loop in (
                self._repeat(self._beat, BEAT_SECONDS),
                self._repeat(self._beat_in_redis, BEAT_SECONDS),
                self._repeat(self._mind_the_lease, _MIND_SECONDS),
                self._repeat(self._ledger.flush, _LEDGER_SECONDS, self._ledger.news),
                self._repeat(self._live.flush, LIVE_SECONDS, self._live.news),
                self._commands.listen(),
                self._aftermath.run(),
                self._recorder.run(),
                self._deliverer.run(),
            )
        ]
        intake = asyncio.create_task(self._intake.run())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            # Any loop that ends by itself has failed: stop in good order and let the error show.
            done, _ = await asyncio.wait({*background, intake, stopping}, return_when=asyncio.FIRST_COMPLETED)
            await self._finish(intake)
            for ended in done - {stopping}:
                ended.result()
        finally:
            await _end({*background, stopping})

    async def _finish(self, intake: "asyncio.Task[None]") -> None:
        """Take nothing new, let what runs come to its end, hand back the rest, sign off: all within the grace."""
        grace = self._settings.shutdown_grace_seconds
        deadline = time.monotonic() + grace
        log.info("worker stopping", worker=self.name, running=len(self._flight.runs))
        self._intake.stop()
        await asyncio.wait({intake}, timeout=min(_INTAKE_SECONDS, grace / 4))
        intake.cancel()
        if attempts := self._flight.attempts():
            await asyncio.wait(attempts, timeout=max(0.0, deadline - _HAND_BACK_SECONDS - time.monotonic()))
        handed_back = len(self._flight.runs)
        self._flight.drop_all(Status.PENDING)
        with suppress(TimeoutError, Unavailable, RedisError, OSError):
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + max(0.5, deadline - time.monotonic())):
                if attempts := self._flight.attempts():
                    await asyncio.wait(attempts, timeout=_HAND_BACK_SECONDS / 3)
                await self._recorder.drain()
                await self._keeper.drain()
                await self._database.all("sign_off", {"id": self._worker_id})
                await self._ledger.flush()
                await self._intake.sign_off()
                await self._live.flush()
                await asyncio.to_thread(self.register_death)
        log.info("worker stopped", worker=self.name, handed_back=handed_back)

    # Outcomes

    def _recorded(self, rows: list[Row]) -> None:
        for row in rows:
            if row["status"] == Status.RETRYING:
                self._ledger.later(row["id"], row["queue"], row["due_at"])
            elif row["status"] == Status.PENDING:
                self._ledger.back(row)
        self._live.moved(rows)
        self._aftermath.follows(rows)

    # Beats

    async def _register(self) -> None:
        rows = await self._database.all(
            "register_worker",
            {
                "kind": "worker", "name": self.name, "host": socket.gethostname(), "pid": os.getpid(),
                "queues": self.queue_names(), "capacity": self._capacity,
            },
        )  # fmt: skip
        self._worker_id = self._intake.worker_id = self._quarantine.worker_id = rows[0]["id"]
        self._last_beat = time.monotonic()

    async def _repeat(
        self, step: Callable[[], Awaitable[None]], seconds: float, news: asyncio.Event | None = None
    ) -> None:
        """A step again and again; what is away for a while does not end it, nor hold up the other loops.

        Args:
            news: what the step waits for while no task runs: to look ten times a second costs an idle worker most.
        """
        was_away = False
        while True:
            if news and not self._flight.runs:
                await news.wait()
            try:
                await step()
                was_away = False
            except (RedisError, Unavailable, OSError) as error:
                if not was_away:
                    log.warning("interrupted", worker=self.name, step=step.__name__, reason=str(error))
                was_away = True
            await asyncio.sleep(seconds)

    async def _beat(self) -> None:
        # Should the loop hang for long, by a handler that never gives it back, this ends the process with a trace.
        faulthandler.dump_traceback_later(_HANG_SECONDS, exit=True)
        if self._threads.stuck * 2 >= self._settings.worker_threads:
            log.error("too many threads are stuck: this worker makes way for a new one", stuck=self._threads.stuck)
            self._stop_soon()
        now = time.monotonic()
        me = {"id": self._worker_id, "running": len(self._flight.runs)}
        if not await self._database.all("beat", me):
            log.error("given up for dead: dropping all tasks", worker=self.name, running=len(self._flight.runs))
            self._flight.drop_all(None)
            await self._register()
            return
        self._last_beat = now
        held = await self._database.all("held_by_worker", me)
        self._flight.cancel({row["id"] for row in held if row["is_to_be_cancelled"]})
        await self._return_strays({(row["id"], row["fence"]) for row in held})

    async def _mind_the_lease(self) -> None:
        """Stop working before others take over what this worker holds; once it can beat, it hands that back."""
        if self._flight.runs and time.monotonic() - self._last_beat > STOP_SECONDS:
            log.error("could not beat: dropping all tasks", worker=self.name, running=len(self._flight.runs))
            self._flight.drop_all(None)

    async def _return_strays(self, held: set[Run]) -> None:
        """Hand back tasks that are ours by the database's account only: a claim whose answer was lost."""
        unknown = held - self._flight.runs - self._recorder.waiting()
        # Seen twice in a row: not just on their way here.
        strays = sorted(unknown & self._strays)
        self._strays = unknown
        if strays:
            log.warning("handing back tasks that nobody here works on", tasks=len(strays))
            self._recorded(await self._recorder.hand_back(strays))

    async def _beat_in_redis(self) -> None:
        pipeline: Any = self._doorbell.client.pipeline(transaction=False)
        self.heartbeat(timeout=_REDIS_TTL, pipeline=pipeline)
        # Also those that nothing was announced on yet.
        pipeline.sadd("rq:queues", *(f"rq:queue:{queue}" for queue in QUEUES))
        pipeline.hexists(self.key, "birth")
        known = (await pipeline.execute())[-1]
        if not known:  # Redis lost its data
            pipeline.hset(self.key, mapping=self.serialize())
            pipeline.expire(self.key, _REDIS_TTL)
            worker_registration.register(self, pipeline)
            await pipeline.execute()
            self._ledger.show_again()
        if self._intake.suspended:
            await self._doorbell.client.hset(self.key, "state", "suspended")


async def _end(tasks: set["asyncio.Task[Any]"]) -> None:
    """Cancel tasks until they end: a driver that loses its connection just then may swallow one cancellation."""
    for _ in range(_CANCELLATIONS):
        for task in tasks:
            task.cancel()
        _, pending = await asyncio.wait(tasks, timeout=_START_PAUSE_SECONDS)
        if not pending:
            return


def main() -> int:
    """Start a worker as the settings say."""
    configured = settings.load_or_exit()
    try:
        logs.configure(configured, "worker", catalog.keys(configured))
        worker = TaskWorker(configured)
        # What is loaded by now stays; looking through it again and again cost 15% of the worker's time.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        worker.work()
    except SettingsError as error:
        settings.fail(error)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
