"""The thread lane. A thread cannot be ended from outside, so one that does not return is left behind."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

import structlog

from jobs.errors import AttemptError, TaskError
from jobs.handlers.context import Context
from jobs.handlers.registry import TaskType
from jobs.profiling import profiled

log = structlog.get_logger(__name__)

T = TypeVar("T")

_NOT_STARTED: Final = TaskError("thread_lost", "A thread for it could not be started.", retryable=True)


async def in_thread(work: Callable[..., T], *args: Any) -> T:
    """What a function returns that would hold up the loop.

    Raises:
        AttemptError: the system has no thread for it now.
    """
    try:
        result = asyncio.get_running_loop().run_in_executor(None, work, *args)
    except RuntimeError as error:
        raise AttemptError(_NOT_STARTED) from error
    return await result


class Threads:
    """Runs handlers in threads, and counts those that were left behind.

    A thread for each attempt: starting one costs some 50 microseconds, and a thread that hangs takes nothing with it
    but itself. How many run at once is the slots' affair.
    """

    def __init__(self) -> None:
        self._left_behind: set[threading.Thread] = set()

    @property
    def stuck(self) -> int:
        """Threads whose attempts have ended without them."""
        self._left_behind = {thread for thread in self._left_behind if thread.is_alive()}
        return len(self._left_behind)

    async def run(self, kind: TaskType, context: Context) -> Any:
        """The handler's result, or what it raised. When this is cancelled, the thread is asked to end, and left.

        Raises:
            AttemptError: also when the system has no thread for it now.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()

        def deliver(result: Any, error: BaseException | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(result)
            else:
                done.set_exception(error)

        def work() -> None:
            context.enter()
            result, error = None, None
            try:
                with profiled(context):
                    result = kind.handler(context)
            except BaseException as raised:  # noqa: BLE001 - it is the attempt's outcome
                # asyncio cannot carry a StopIteration.
                error = RuntimeError("StopIteration") if isinstance(raised, StopIteration) else raised
            try:
                loop.call_soon_threadsafe(deliver, result, error)
            except RuntimeError:
                log.info("a thread ended after its worker", task_id=context.task_id)

        thread = threading.Thread(
            target=contextvars.copy_context().run, args=(work,), name=f"task-{context.task_id}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            raise AttemptError(_NOT_STARTED) from error
        try:
            return await done
        finally:
            if not done.done() or done.cancelled():
                context.stop()
                self._left_behind.add(thread)
