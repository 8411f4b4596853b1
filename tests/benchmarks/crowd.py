"""Many real workers in one process, for `tests.benchmarks.scaling`: everything of a worker but the model's endpoint.

`main` serves until SIGTERM. At SIGUSR1 it prints, as JSON beside its log, how often each statement was sent so far.
"""

import asyncio
import random
import signal
import sys
from collections import Counter
from contextlib import asynccontextmanager
from typing import Any

import orjson
import uvloop
from marshmallow import Schema, fields

from jobs import logs, settings
from jobs.handlers.context import Context
from jobs.handlers.registry import task_type
from jobs.store.database import AsyncDatabase, AsyncSession, Session
from jobs.worker import TaskWorker

_TEXT = " ".join(f"{number:06x}" for number in range(215))  # 1.5 KB
_USAGE = {"prompt_tokens": 100, "completion_tokens": 500, "total_tokens": 600}


class Wish(Schema):
    """How long the call takes, on the average."""

    seconds = fields.Float(required=True)


@task_type("crowd_call", input_schema=Wish)
async def call(context: Context) -> dict[str, Any]:
    """A call that ends some time, as calls of a model do: not all of them together."""
    await asyncio.sleep(context.input["seconds"] * random.uniform(0.5, 1.5))
    return {"text": _TEXT, "usage": _USAGE}


def count_statements() -> Counter[str]:
    """Count, by name, what this process sends from now on. A transaction's BEGIN and COMMIT count as one each."""
    counted = Counter[str]()
    all_of, transaction, run = AsyncSession.all, AsyncDatabase.transaction, Session.all

    async def counting(session: AsyncSession, name: str, *arguments: Any) -> Any:
        counted[name] += 1
        return await all_of(session, name, *arguments)

    @asynccontextmanager
    async def in_transaction(database: AsyncDatabase) -> Any:
        counted["BEGIN"] += 1
        counted["COMMIT"] += 1
        async with transaction(database) as session:
            yield session

    def in_thread(session: Session, name: str, *arguments: Any, **options: Any) -> Any:
        counted[name] += 1
        return run(session, name, *arguments, **options)

    AsyncSession.all, AsyncDatabase.transaction, Session.all = counting, in_transaction, in_thread  # type: ignore[method-assign, assignment]
    return counted


async def _serve(count: int, counted: Counter[str]) -> None:
    asyncio.get_running_loop().add_signal_handler(
        signal.SIGUSR1, lambda: print(orjson.dumps(counted).decode(), flush=True)
    )
    configured = settings.load()
    workers = [TaskWorker(configured) for _ in range(count)]
    serving = [asyncio.create_task(worker._serve()) for worker in workers]
    # The last one has the signal handlers; it tells the others.
    await asyncio.wait({serving[-1]})
    for worker in workers:
        worker._stopping.set()
    await asyncio.wait(serving)


def main() -> None:
    """So many workers."""
    logs.configure(settings.load(), "worker")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[1]), count_statements()))
