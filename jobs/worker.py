"""The worker: an RQ worker that keeps many tasks in flight in one process, on one event loop.

RQ's `BaseWorker` gives it the names, keys and commands that `rq info`, `rq suspend` and rq-dashboard
know; RQ's own work loop, one job at a time, is replaced. `python -m jobs.worker` starts one.
"""

import asyncio
import gc
import os
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final
from uuid import uuid4

import structlog
import uvloop
from rq import worker_registration
from rq.command import parse_payload
from rq.worker import BaseWorker

from jobs import logs, settings
from jobs.attempt import Claim, Outcome, failed, perform
from jobs.daily_lives import KEEP_SECONDS, cache_key, cached
from jobs.errors import SettingsError, TaskError, Unavailable
from jobs.handlers import registry
from jobs.handlers.context import Tools
from jobs.intake import Intake
from jobs.ledger import Ledger
from jobs.lifecycle import Status, sources
from jobs.priority import QUEUES
from jobs.prompts import Prompts
from jobs.providers import catalog
from jobs.queues import CANCEL_COMMAND, AsyncDoorbell, RedisError, TaskJob, TaskQueue, connect
from jobs.recorder import Recorder
from jobs.settings import Settings
from jobs.slots import SlotBudget
from jobs.store.database import AsyncDatabase, Row

log = structlog.get_logger(__name__)

BEAT_SECONDS: Final = 2.0
LEASE_SECONDS: Final = 8.0
"""A worker that has not beaten for this long is given up for dead, and its tasks go to others."""

_LEDGER_SECONDS = 0.1
_BLOCK_SECONDS = 5.0
_START_PAUSE_SECONDS = 0.5
_REDIS_TTL = 20  # seconds without a beat after which RQ's tools no longer show the worker
_HAND_BACK_SECONDS = 3.0  # of the grace period, kept for handing back and signing off


class Running:
    """A task in flight."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.dropped = False
        self.verdict: Status | None = None
        self.task: asyncio.Task[None] | None = None

    def drop(self, verdict: Status | None) -> None:
        """Stop the attempt now and record `verdict`; None: the task is no longer ours, record nothing."""
        self.dropped = True
        self.verdict = verdict
        if self.task:
            self.task.cancel()


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
        self._slots = SlotBudget(configured.worker_concurrency, configured.worker_queues, configured.queue_shares)
        self._running: dict[int, Running] = {}
        self._worker_id = 0

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
            loop.add_signal_handler(number, self._stopping.set)
        self._providers = catalog.build(self._settings)
        self._doorbell = AsyncDoorbell(self._settings.redis_url, wait_seconds=_BLOCK_SECONDS)
        self._ledger = Ledger(self._doorbell.client, self.name, _REDIS_TTL)
        on_completion = {kind.name: kind.on_completion for kind in self._types.values() if kind.on_completion}
        self._recorder = Recorder(self._database, self.name, on_completion, self._recorded)
        self._tools = Tools(self._settings, self._database, self._providers, Prompts(self._settings.prompts_dir))
        self._intake = Intake(self._database, self._doorbell, self._slots, self.name, self._start)
        async with self._database.opened():
            try:
                await self._until_ready()
                if not self._stopping.is_set():
                    await self._run_loops()
            finally:
                await self._providers.aclose()
                await self._doorbell.aclose()

    async def _until_ready(self) -> None:
        """Register in PostgreSQL and Redis, however long that takes."""
        while not self._stopping.is_set():
            try:
                await self._register()
                super()._set_ip_address(self.connection)
                self.register_birth()
            except (RedisError, Unavailable) as error:
                log.warning("waiting for the database and Redis", reason=str(error))
                await asyncio.sleep(_START_PAUSE_SECONDS)
            else:
                log.info("worker ready", worker=self.name, queues=self.queue_names(), slots=self._slots.capacity)
                return

    async def _run_loops(self) -> None:
        background = [
            asyncio.create_task(loop)
            for loop in (self._beat_loop(), self._ledger_loop(), self._command_loop(), self._recorder.run())
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
            for task in (*background, stopping):
                task.cancel()
            await asyncio.gather(*background, stopping, return_exceptions=True)
            await self._sign_off()

    async def _finish(self, intake: "asyncio.Task[None]") -> None:
        """Take nothing new, let what runs come to its end, hand back the rest."""
        deadline = time.monotonic() + self._settings.shutdown_grace_seconds - _HAND_BACK_SECONDS
        log.info("worker stopping", worker=self.name, running=len(self._running))
        self._intake.stop()
        await asyncio.wait({intake}, timeout=_BLOCK_SECONDS)
        attempts = {running.task for running in self._running.values() if running.task}
        if attempts:
            await asyncio.wait(attempts, timeout=max(0.0, deadline - time.monotonic()))
        handed_back = list(self._running.values())
        for running in handed_back:
            running.drop(Status.PENDING)
        if handed_back:
            await asyncio.wait({running.task for running in handed_back if running.task}, timeout=1.0)
        with suppress(TimeoutError):
            async with asyncio.timeout(_HAND_BACK_SECONDS - 1.5):
                await self._recorder.drain()
        log.info("worker stopped", worker=self.name, handed_back=len(handed_back))

    async def _sign_off(self) -> None:
        with suppress(Unavailable):
            await self._database.all("sign_off", {"id": self._worker_id})
        with suppress(RedisError):
            await self._ledger.flush()
            self.register_death()

    # One attempt

    def _start(self, claim: Claim) -> None:
        running = self._running[claim.id] = Running(claim)
        self._slots.occupy(claim.queue)
        self._ledger.started((claim.id, claim.fence), claim.queue, claim.timeout_seconds)
        running.task = asyncio.create_task(self._attempt(running))

    async def _attempt(self, running: Running) -> None:
        claim = running.claim
        began = time.monotonic()
        outcome: Outcome | None
        try:
            outcome = await perform(claim, self._types, self._tools)
        except asyncio.CancelledError:
            if not running.dropped:
                outcome = failed(claim, TaskError("handler_error", "The handler cancelled itself."))
            else:
                outcome = None if running.verdict is None else Outcome(claim, running.verdict)
        seconds = time.monotonic() - began
        del self._running[claim.id]
        self._slots.release(claim.queue)
        self._intake.slot_freed()
        self._ledger.ended((claim.id, claim.fence), outcome.status if outcome else None, seconds)
        if outcome:
            self._recorder.put(outcome)
        log.info(
            "attempt ended", task_id=claim.id, task_type=claim.task_type, attempt=claim.attempt,
            request_id=claim.request_id, outcome=outcome.status.value if outcome else "LOST",
            seconds=round(seconds, 3), error=outcome.error.code if outcome and outcome.error else None,
        )  # fmt: skip

    def _recorded(self, rows: list[Row], kept: Mapping[str, list[Row]]) -> None:
        for day in kept.get("keep_daily_lives", []):
            self._ledger.cache(cache_key(day["date"], day["account_id"]), cached(day), KEEP_SECONDS)
        for row in rows:
            if row["status"] == Status.RETRYING:
                self._ledger.later(row["id"], row["queue"], row["due_at"])
            elif row["status"] == Status.PENDING:
                self._ledger.back(row["id"], row["queue"])

    def _cancel(self, task_ids: list[int]) -> None:
        for task_id in task_ids:
            if running := self._running.get(task_id):
                running.drop(Status.CANCELLED)

    # Beats

    async def _register(self) -> None:
        rows = await self._database.all(
            "register_worker",
            {
                "kind": "worker", "name": self.name, "host": socket.gethostname(), "pid": os.getpid(),
                "queues": self.queue_names(), "capacity": self._slots.capacity,
            },
        )  # fmt: skip
        self._worker_id = self._intake.worker_id = rows[0]["id"]

    async def _beat_loop(self) -> None:
        while True:
            try:
                await self._beat()
            except (RedisError, Unavailable, OSError) as error:
                log.warning("cannot beat", worker=self.name, reason=str(error))
            await asyncio.sleep(BEAT_SECONDS)

    async def _beat(self) -> None:
        me = {"id": self._worker_id, "running": len(self._running)}
        if not await self._database.all("beat", me):
            log.error("given up for dead: dropping all tasks", worker=self.name, running=len(self._running))
            for running in self._running.values():
                running.drop(None)
            await self._register()
        self._cancel([row["id"] for row in await self._database.all("cancel_wishes", me)])
        await self._beat_in_redis()

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

    async def _ledger_loop(self) -> None:
        while True:
            with suppress(RedisError, OSError):
                await self._ledger.flush()
            await asyncio.sleep(_LEDGER_SECONDS)

    # Commands, ours and RQ's, from RQ's channel for this worker

    async def _command_loop(self) -> None:
        while True:
            try:
                async with self._doorbell.client.pubsub() as pubsub:
                    await pubsub.subscribe(self.pubsub_channel_name)
                    while True:
                        message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=BEAT_SECONDS)
                        if message:
                            await self._command(message)
            except (RedisError, Unavailable, OSError) as error:
                log.warning("not listening for commands", worker=self.name, reason=str(error))
                await asyncio.sleep(_START_PAUSE_SECONDS)

    async def _command(self, message: dict[str, Any]) -> None:
        try:
            payload = parse_payload(message)
            command = payload["command"]
            task_ids = [int(task_id) for task_id in payload.get("task_ids") or [payload.get("job_id", 0)]]
        except (ValueError, TypeError, LookupError, AttributeError):
            log.warning("ignored a command that is not understood", worker=self.name)
            return
        if command in ("stop-job", "stop-execution"):  # RQ's own, as `rq` and its dashboard send them
            wish = {"ids": task_ids, "batch_id": None, "sources": sources(Status.CANCELLED)}
            await self._database.all("cancel_tasks", wish)
        if command in ("stop-job", "stop-execution", CANCEL_COMMAND):
            self._cancel(task_ids)
        elif command == "shutdown":
            self._stopping.set()
        else:
            log.info("ignored an RQ command", worker=self.name, command=str(command))


def main() -> int:
    """Start a worker as the settings say."""
    configured = settings.load_or_exit()
    logs.configure(configured, "worker")
    try:
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
