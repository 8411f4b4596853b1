"""Contexts for handlers that are tested without a worker."""

from dataclasses import replace
from typing import Any, cast

from jobs import settings
from jobs.answers import Keeper, Values
from jobs.handlers.context import Context, Facts, Tools

FACTS = Facts(1, 1, "text_generation", 1, None, "m", {}, {}, None, None, False, False, [], (8.0, 10.0))


class SilentLine:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def progress(self, task_id: int, fence: int, percent: int, message: str | None) -> None:
        self.said.append((percent, message))

    def text(self, task_id: int, fence: int, piece: str) -> None:
        self.said.append(piece)


class Forgetful(Keeper):
    """Keeps nothing."""

    async def keep(self, values: Values) -> None:
        """So be it."""


def context_for(*, providers: Any = None, prompts: Any = None, **facts: Any) -> Context:
    """A context with these tools, of a task with these facts."""
    nothing = cast(Any, None)
    configured = settings.load()
    tools = Tools(configured, nothing, providers, prompts, Forgetful(nothing), lambda *_: None)
    return Context(replace(FACTS, **facts), configured, SilentLine(), tools)
