"""Tasks performed and completed the way a worker does it, without one."""

import asyncio
from typing import Any

from jobs.attempt import Claim, Outcome
from jobs.handlers import registry
from jobs.handlers.context import Context, Facts, Tools
from jobs.lifecycle import CLAIMABLE, Status, sources
from jobs.prompts import Prompts
from jobs.recorder import Recorder
from jobs.settings import Settings
from jobs.store.database import AsyncDatabase
from tests.support.contexts import SilentLine

_WORKER = {"kind": "worker", "name": "w", "host": "h", "pid": 1, "queues": ["low"], "capacity": 9}


def complete(database_url: str, results: dict[int, dict[str, Any]]) -> None:
    """Claim tasks and record their results, all in one statement, with what belongs into the same transaction."""

    async def run() -> None:
        async with AsyncDatabase(database_url, max_size=2).opened() as database:
            (worker,) = await database.all("register_worker", _WORKER)
            wanted = {"ids": list(results), "sources": sources(Status.PROCESSING, CLAIMABLE), "worker": "w"}
            claims = await database.all("claim_tasks", {**wanted, "worker_id": worker["id"]})
            assert len(claims) == len(results)
            recorder = Recorder(database, "w", lambda _: None)
            for row in claims:
                recorder.put(Outcome(Claim.from_row(row), Status.COMPLETED, result=results[row["id"]]))
            await recorder.drain()

    asyncio.run(run())


def perform(configured: Settings, task: dict[str, Any], providers: Any) -> dict[str, Any]:
    """The result of a coroutine handler for a task as the API returns it; nothing is recorded."""

    async def run() -> dict[str, Any]:
        async with AsyncDatabase(configured.database_url, max_size=2).opened() as database:
            loop = asyncio.get_running_loop()
            tools = Tools(configured, database, providers, Prompts(), loop, lambda *_: None)
            facts = Facts(
                task["id"], 1, task["task_type"], 1, None, task["model"], task["input"], {}, None, None, False, False,
                [], (240.0, 300.0),
            )  # fmt: skip
            context = Context(facts, configured, SilentLine(), tools)
            result: dict[str, Any] = await registry.load()[task["task_type"]].handler(context)  # type: ignore[misc]
            return result

    return asyncio.run(run())
