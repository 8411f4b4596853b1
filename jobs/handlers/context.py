"""What a handler is given."""

from dataclasses import dataclass, field
from typing import Any

from jobs.errors import AttemptError, TaskError
from jobs.prompts import Prompts
from jobs.providers.catalog import Catalog
from jobs.settings import Settings
from jobs.store.database import AsyncDatabase, Row


@dataclass(frozen=True, slots=True)
class Tools:
    """What all attempts of a worker share."""

    settings: Settings
    database: AsyncDatabase
    providers: Catalog
    prompts: Prompts


@dataclass(slots=True)
class Context:
    """One attempt at one task.

    Attributes:
        attempt: its number, from 1.
        input: as the task type's schema accepted it at submission.
        usage: tokens used so far, as the providers count them.
    """

    task_id: int
    attempt: int
    prompt: str | None
    model: str | None
    input: dict[str, Any]
    tools: Tools
    usage: dict[str, Any] | None = field(default=None)

    @property
    def providers(self) -> Catalog:
        """Model endpoints."""
        return self.tools.providers

    @property
    def prompts(self) -> Prompts:
        """Prompt templates."""
        return self.tools.prompts

    def count(self, usage: dict[str, Any] | None) -> None:
        """Add the tokens of one model call."""
        if self.usage is None or usage is None:
            self.usage = usage or self.usage
            return
        for name, amount in usage.items():
            if isinstance(amount, int):
                self.usage = {**self.usage, name: self.usage.get(name, 0) + amount}

    async def account(self, account_id: int) -> Row:
        """The account's row.

        Raises:
            AttemptError: account_not_found.
        """
        rows = await self.tools.database.all("get_account", {"id": account_id})
        if not rows:
            raise AttemptError(TaskError("account_not_found", f"There is no account {account_id}."))
        return rows[0]
