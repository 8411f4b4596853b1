"""The tasks a worker has in flight: started, dropped, and landed."""

import asyncio
import time
from collections.abc import Callable, Set
from typing import Final

import structlog

from jobs.attempt import Attempt, Claim, Lanes, Outcome, failed
from jobs.errors import TaskError
from jobs.ledger import Ledger, Run
from jobs.lifecycle import Status
from jobs.pools import Pools, lane_of
from jobs.recorder import Recorder
from jobs.slots import Slots

log = structlog.get_logger(__name__)

_COMING_SECONDS: Final = 0.05  # from PostgreSQL's answer to a claim until its tasks have begun


class Running:
    """A task in flight."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.claim = attempt.claim
        self.began = time.monotonic()
        self.task: asyncio.Task[Outcome] | None = None
        self._verdict: Status | None = None
        self._dropped = False

    def drop(self, verdict: Status | None) -> None:
        """Stop the attempt now; its outcome is `verdict`, or none when the task is no longer ours."""
        self._dropped = True
        self._verdict = verdict
        if self.task:
            self.task.cancel()

    def cancel(self) -> None:
        """Stop the attempt by the caller's wish: a thread is asked to, the others are ended."""
        if lane_of(self.claim.pool) == "thread" and self.attempt.context:
            self.attempt.context.stop()
        else:
            self.drop(Status.CANCELLED)

    def outcome(self) -> Outcome | None:
        """What the ended attempt came to; None: nothing that may be recorded."""
        assert self.task  # noqa: S101 - it has ended, so it was started
        if not self.task.cancelled():
            if surprise := self.task.exception():
                claim = self.claim
                log.error("attempt raised", task_id=claim.id, request_id=claim.request_id, exc_info=surprise)
                return failed(claim, TaskError("handler_error", f"The attempt raised {type(surprise).__name__}."))
            return self.task.result()
        if not self._dropped:
            outcome = failed(self.claim, TaskError("handler_error", "The handler cancelled itself."))
        elif self._verdict is None:
            return None
        else:
            outcome = Outcome(self.claim, self._verdict, free=self._verdict is Status.PENDING)
        return self.attempt.with_costs(outcome)


class Flight:
    """Runs attempts, each in a slot, and passes on what they come to."""

    def __init__(
        self,
        slots: Slots,
        pools: Pools,
        ledger: Ledger,
        recorder: Recorder,
        lanes: Lanes,
        ended: Callable[[int, int], None],
    ) -> None:
        """`ended` is told the task and the fence of each attempt that is over, before its outcome is recorded."""
        self.on_landing: Callable[[], None] = lambda: None
        self._slots = slots
        self._pools = pools
        self._ledger = ledger
        self._recorder = recorder
        self._lanes = lanes
        self._ended = ended
        self._running: dict[Run, Running] = {}

    @property
    def runs(self) -> set[Run]:
        """What is in flight."""
        return set(self._running)

    def attempts(self) -> set["asyncio.Task[Outcome]"]:
        """The asyncio tasks of what is in flight."""
        return {running.task for running in self._running.values() if running.task}

    def start(self, claim: Claim) -> None:
        """Begin an attempt at a claimed task."""
        run = (claim.id, claim.fence)
        running = self._running[run] = Running(Attempt(claim, self._lanes))
        self._slots[lane_of(claim.pool)].occupy(claim.queue)
        self._pools.started(run, claim.pool)
        self._ledger.started(run, claim.queue, claim.timeout_seconds)
        running.task = asyncio.create_task(running.attempt.run())
        # A callback, because a task that is cancelled before its first step runs no code of its own.
        running.task.add_done_callback(lambda _: self._landed(running))

    def cancel(self, task_ids: Set[int]) -> None:
        """Stop the attempts at these tasks; they are cancelled."""
        for running in list(self._running.values()):
            if running.claim.id in task_ids:
                running.cancel()

    async def cancel_here_or_coming(self, task_ids: Set[int]) -> None:
        """The same, also for tasks that were claimed just now and are on their way here."""
        self.cancel(task_ids)
        if coming := task_ids - {task_id for task_id, _ in self._running}:
            await asyncio.sleep(_COMING_SECONDS)
            self.cancel(coming)

    def drop_all(self, verdict: Status | None) -> None:
        """Stop all attempts; see `Running.drop`."""
        for running in list(self._running.values()):
            running.drop(verdict)

    def _landed(self, running: Running) -> None:
        claim, outcome = running.claim, running.outcome()
        run = (claim.id, claim.fence)
        seconds = time.monotonic() - running.began
        del self._running[run]
        self._slots[lane_of(claim.pool)].release(claim.queue)
        context = running.attempt.context
        self._pools.ended(run, context.spent if context else {})
        self.on_landing()
        self._ended(*run)
        self._ledger.ended(run, outcome.status if outcome else None, seconds)
        if outcome:
            self._recorder.put(outcome)
        log.info(
            "attempt ended", task_id=claim.id, task_type=claim.task_type, attempt=claim.attempt,
            request_id=claim.request_id, outcome=outcome.status.value if outcome else "LOST",
            seconds=round(seconds, 3), error=outcome.error.code if outcome and outcome.error else None,
        )  # fmt: skip
