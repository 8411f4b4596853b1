"""Coroutine handlers performed without a worker."""

import asyncio
from typing import Any

from jobs.answers import Keeper
from jobs.handlers import registry
from jobs.handlers.context import Context, Facts, Tools
from jobs.prompts import Prompts
from jobs.settings import Settings
from jobs.store.database import AsyncDatabase
from tests.support.contexts import SilentLine


def perform(configured: Settings, task: dict[str, Any], providers: Any, *, fence: int = 1) -> dict[str, Any]:
    """The result of a coroutine handler for a task as the API returns it; nothing is recorded.

    With a `fence` above 1, it was tried before.
    """

    async def run() -> dict[str, Any]:
        async with AsyncDatabase(configured.database_url, max_size=2).opened() as database:
            tools = Tools(configured, database, providers, Prompts(), Keeper(database), lambda *_: None)
            facts = Facts(
                task["id"], fence, task["task_type"], 1, None, task["model"], task["input"], {}, None, None, False,
                False, [], (240.0, 300.0),
            )  # fmt: skip
            context = Context(facts, configured, SilentLine(), tools)
            result: dict[str, Any] = await registry.load()[task["task_type"]].handler(context)  # type: ignore[misc]
            return result

    return asyncio.run(run())
