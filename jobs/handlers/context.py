"""What a handler is given, and what helpers below it can reach: `current()`."""

import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Protocol, TypeVar

import structlog

from jobs.answers import Keeper, Kept
from jobs.errors import AttemptError, Cancelled, TaskError
from jobs.fields import storable
from jobs.pools import Calls
from jobs.prompts import Prompts
from jobs.providers.base import ChatAnswer, ChatRequest, EmbeddingAnswer, EmbeddingRequest, Provider
from jobs.providers.catalog import Catalog
from jobs.secrets import clean
from jobs.settings import Settings
from jobs.store.database import AsyncDatabase, Database, Row
from jobs.usage import added, tokens_of

Answer = TypeVar("Answer", ChatAnswer, EmbeddingAnswer)

_MESSAGE_CHARS: Final = 500
_CURRENT: ContextVar["Context"] = ContextVar("pressroom_context")
# Another model may do what this one cannot now.
_PASSING = frozenset({"rate_limited", "provider_error", "provider_unreachable"})


def current() -> "Context":
    """The context of the attempt that runs here, in whatever lane.

    Raises:
        LookupError: no handler runs here.
    """
    return _CURRENT.get()


class Line(Protocol):
    """Where progress and text go: to whoever watches the task."""

    def progress(self, task_id: int, fence: int, percent: int, message: str | None) -> None:
        """Show how far the attempt is."""

    def text(self, task_id: int, fence: int, piece: str) -> None:
        """Show a piece of text as it is generated."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What all attempts of a worker share on its event loop.

    Attributes:
        refused: told the task, its fence, the model and the error when an endpoint refuses a call for now.
    """

    settings: Settings
    database: AsyncDatabase
    providers: Catalog
    prompts: Prompts
    keeper: Keeper
    refused: Callable[[int, int, str, TaskError], None]


@dataclass(frozen=True, slots=True)
class Facts:
    """The task, as a handler may see it.

    Attributes:
        attempt: its number, from 1.
        input: as the task type's schema accepted it at submission, with its parents' results filled in.
        parents: `id`, `task_type`, `status`, `result`... of the tasks it depends on, in their order.
        limits: seconds after which an attempt is warned, and ended.
    """

    task_id: int
    fence: int
    task_type: str
    attempt: int
    prompt: str | None
    model: str | None
    input: dict[str, Any]
    metadata: dict[str, Any]
    account_id: int | None
    request_id: str | None
    stream: bool
    profile: bool
    parents: list[dict[str, Any]]
    limits: tuple[float, float]


@dataclass
class Context:
    """One attempt at one task.

    Attributes:
        usage: tokens used so far, as the providers count them.
        spent: by model, the calls made so far in this attempt.
        profile_page: where the time went, once the handler has ended, when the task asked for that.
    """

    facts: Facts
    settings: Settings
    line: Line
    tools: Tools | None = None
    usage: dict[str, Any] | None = None
    spent: dict[str, Calls] = field(default_factory=dict)
    profile_page: str | None = None
    began: float = field(default_factory=time.monotonic)
    _has_shown: bool = False
    _is_stopped: bool = False  # set by the worker's event loop, seen in any thread

    @property
    def task_id(self) -> int:
        """The task's id."""
        return self.facts.task_id

    @property
    def attempt(self) -> int:
        """The attempt's number, from 1."""
        return self.facts.attempt

    @property
    def prompt(self) -> str | None:
        """The task's prompt."""
        return self.facts.prompt

    @property
    def model(self) -> str | None:
        """The task's model."""
        return self.facts.model

    @property
    def input(self) -> dict[str, Any]:
        """The task's input."""
        return self.facts.input

    # Time and cancellation

    @property
    def remaining(self) -> float:
        """Seconds until the attempt is ended as `timeout`."""
        return self.began + self.facts.limits[1] - time.monotonic()

    @property
    def is_late(self) -> bool:
        """Whether the soft limit has passed: time to come to an end."""
        return time.monotonic() - self.began >= self.facts.limits[0]

    @property
    def is_cancelled(self) -> bool:
        """Whether the attempt is to end, by the caller's wish or for lack of time. In a process, never: it is ended."""
        return self._is_stopped

    def check(self) -> None:
        """End the attempt here if it is to end; for handlers in threads, between two steps.

        Raises:
            Cancelled: not to be caught.
        """
        if self.is_cancelled:
            raise Cancelled

    def stop(self) -> None:
        """Ask the handler to end; for the worker."""
        self._is_stopped = True

    # What the watchers see

    def progress(self, percent: float, message: str | None = None) -> None:
        """Say how far the attempt is (0 to 100); raises like `check`.

        As often as you like: a few a second are shown.
        """
        self.check()
        if message is not None:
            message = clean(storable(message))[:_MESSAGE_CHARS]
        self.line.progress(self.task_id, self.facts.fence, max(0, min(100, int(percent))), message)

    def stream(self, text: str) -> None:
        """Show a piece of text to whoever watches, when the task was submitted with `stream`."""
        if self.facts.stream and not self.is_cancelled:
            self._has_shown = True
            self.line.text(self.task_id, self.facts.fence, text)

    @cached_property
    def log(self) -> Any:
        """A logger with the task's facts."""
        facts = self.facts
        return structlog.get_logger("pressroom.handler").bind(
            task_id=facts.task_id, task_type=facts.task_type, attempt=facts.attempt, request_id=facts.request_id
        )

    # Tools

    @cached_property
    def prompts(self) -> Prompts:
        """Prompt templates."""
        return self.tools.prompts if self.tools else Prompts(self.settings.prompts_dir)

    @cached_property
    def database(self) -> Database:
        """Connections for handlers in threads and processes."""
        return shared_database(self.settings.database_url)

    @property
    def on_loop(self) -> Tools:
        """The tools of coroutine handlers.

        Raises:
            RuntimeError: this handler runs in another process.
        """
        if self.tools is None:
            raise RuntimeError("handlers in processes have no event loop, and call no models")
        return self.tools

    async def rows(self, statement: str, params: Mapping[str, Any] | None = None) -> list[Row]:
        """The rows of a named statement; for coroutine handlers. `Unavailable` has the attempt tried again."""
        return await self.on_loop.database.all(statement, params)

    @cached_property
    def kept(self) -> Kept:
        """What models answered to this attempt and those before it."""
        return Kept(self.on_loop.keeper, self.task_id, self.facts.fence)

    @property
    def has_answers(self) -> bool:
        """Whether answers of models were kept in this attempt."""
        return "kept" in self.__dict__ and not self.kept.is_empty

    async def ask(self, request: ChatRequest, *, keep: bool = True) -> tuple[ChatAnswer, str]:
        """A model's answer, with the name of the provider; streamed and counted.

        It is stored before it is returned, so that another attempt gets it without a call; `keep=False` is for
        handlers whose result it is, which is stored at once.

        When the model cannot answer now, those that FALLBACK_MODELS names for this type are asked in turn; but not
        once some of its text was shown, which another model cannot go on with.

        Raises:
            AttemptError: as the last of them says.
        """
        if not keep:
            answer, provider, _ = await self._ask_any(request)
            return answer, provider
        found = await self.kept.answer(request, lambda: self._ask_any(request))
        if found.is_new:
            return found.answer, found.provider
        self.log.info("answered before", model=found.answer.model)
        if not found.is_counted:
            self.count(found.answer.usage, found.model)
        self.stream(found.answer.text)
        return found.answer, found.provider

    async def _ask_any(self, request: ChatRequest) -> tuple[ChatAnswer, str, str]:
        """An answer, with the provider and the model that were asked."""
        models = [request.model, *self.settings.fallback_models.get(self.facts.task_type, ())]
        for model in models[:-1]:
            try:
                return await self._ask(request.with_model(model))
            except AttemptError as failure:
                if failure.error.code not in _PASSING or not failure.error.retryable or self._has_shown:
                    raise
                self.log.info("asking another model", model=model, error=failure.error.code)
        return await self._ask(request.with_model(models[-1]))

    async def _ask(self, request: ChatRequest) -> tuple[ChatAnswer, str, str]:
        on_text = self.stream if self.facts.stream else None
        answer, provider = await self._call(request.model, lambda provider: provider.chat(request, on_text))
        return answer, provider, request.model

    async def embed(self, request: EmbeddingRequest) -> EmbeddingAnswer:
        """The vectors of texts; counted. No other model is asked: its vectors could not be compared.

        Raises:
            AttemptError: as the provider says.
        """
        answer, _ = await self._call(request.model, lambda provider: provider.embed(request))
        return answer

    async def _call(self, model: str, call: Callable[[Provider], Awaitable[Answer]]) -> tuple[Answer, str]:
        """The answer of the provider of `model`, and its name."""
        tools = self.on_loop
        provider = tools.providers.provider_for(model)
        spent = self.spent.setdefault(model, Calls())
        spent.calls += 1
        try:
            answer = await call(provider)
        except AttemptError as failure:
            if failure.error.means_busy:
                tools.refused(self.task_id, self.facts.fence, model, failure.error)
            raise
        spent.answers += 1
        spent.tokens += tokens_of(answer.usage)
        self.count(answer.usage, model)
        return answer, provider.name

    def count(self, tokens: dict[str, Any] | None, model: str | None = None) -> None:
        """Add the tokens of one call of a model (None: the task's own)."""
        if tokens:
            own = self.model or ""
            self.usage = added(self.usage, tokens, own if model is None else model, own)

    async def account(self, account_id: int) -> Row:
        """The account's row.

        Raises:
            AttemptError: account_not_found.
        """
        rows = await self.rows("get_account", {"id": account_id})
        if not rows:
            raise AttemptError(TaskError("account_not_found", f"There is no account {account_id}."))
        return rows[0]

    def enter(self) -> None:
        """Make this what `current` returns here and below."""
        _CURRENT.set(self)


_databases: dict[str, Database] = {}
_opening = threading.Lock()


def shared_database(url: str) -> Database:
    """This process's connections for handlers that run outside the event loop, opened when first needed."""
    with _opening:
        if url not in _databases:
            _databases[url] = Database(url, max_size=4)
            _databases[url].open()
        return _databases[url]
