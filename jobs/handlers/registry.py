"""The decorator that makes a function a task type, and what is registered."""

import importlib
import inspect
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, TypeVar

from marshmallow import Schema, ValidationError

from jobs.errors import SettingsError
from jobs.handlers.context import Context
from jobs.pools import MODES, Mode, pool_of
from jobs.retry import DEFAULT_POLICY, RetryPolicy
from jobs.setting_values import Scope

Handler = Callable[[Context], Awaitable[dict[str, Any]]] | Callable[[Context], dict[str, Any]]
H = TypeVar("H", bound=Handler)

BUILT_IN = tuple(
    f"jobs.handlers.{module}"
    for module in (
        "text_generation",
        "content_generation",
        "daily_life",
        "memory_consolidation",
        "conversation_analysis",
        "document_analysis",
        "embedding",
        "maintenance",
        "reports",
    )
)


@dataclass(frozen=True, slots=True)
class TaskType:
    """A registered task type.

    Attributes:
        handler: an `async` function in the mode `coroutine`, a plain one in the others; in the mode `process` it is
            found again, by its module and name, in another process.
        input_schema: validates a task's `input`.
        needs_prompt: whether `prompt` and `model` are required.
        calls_model: whether the limits of the task's model hold for it.
        embeds: whether that is a model for embeddings: the one of tasks that name none is EMBEDDING_MODEL.
        timeout_seconds, max_retries, priority, retention_days: defaults of its tasks; None: those of the settings.
        soft_limit: part of the time limit after which a warning is logged as an event.
        scope: what a key must allow for submitting its tasks.
    """

    name: str
    handler: Handler
    input_schema: type[Schema]
    mode: Mode = "coroutine"
    needs_prompt: bool = False
    calls_model: bool = False
    embeds: bool = False
    timeout_seconds: int | None = None
    max_retries: int | None = None
    retry: RetryPolicy = DEFAULT_POLICY
    priority: int | None = None
    retention_days: int | None = None
    soft_limit: float = 0.8
    scope: Scope = "submit"

    @property
    def inputs(self) -> Schema:
        """An instance of `input_schema`, one for all: making one takes longer than its use."""
        return _instance(self.input_schema)

    @property
    def takes_nothing(self) -> bool:
        """Whether an empty input is accepted, and stays empty."""
        return _takes_nothing(self.input_schema)

    def pool(self, model: str) -> str:
        """Which tasks its tasks wait together with: those of its lane, and of its model where it calls one."""
        return pool_of(self.mode, model if self.calls_model else None)


@cache
def _takes_nothing(schema: type[Schema]) -> bool:
    try:
        return not _instance(schema).load({})
    except ValidationError:
        return False


@cache
def _instance(schema: type[Schema]) -> Schema:
    return schema()


_registered: dict[str, TaskType] = {}


def own_retention() -> dict[str, int]:
    """Days after which ended tasks are removed, of the registered types that have their own."""
    return {name: kind.retention_days for name, kind in _registered.items() if kind.retention_days is not None}


def task_type(name: str, *, input_schema: type[Schema], mode: Mode = "coroutine", **defaults: Any) -> Callable[[H], H]:
    """Register the decorated function as the handler of task type `name`.

    Args:
        defaults: further attributes of `TaskType`.

    Raises:
        ValueError: the name is taken, the function does not fit the mode, or there is no such default.
    """

    def register(handler: H) -> H:
        if name in _registered:
            raise ValueError(f"task type {name!r} is registered twice")
        if mode not in MODES:
            raise ValueError(f"task type {name!r}: there is no mode {mode!r}")
        if inspect.iscoroutinefunction(handler) != (mode == "coroutine"):
            raise ValueError(f"task type {name!r}: mode {mode!r} does not fit this function")
        if unknown := defaults.keys() - {field.name for field in fields(TaskType)}:
            raise ValueError(f"task type {name!r}: there is no {', '.join(sorted(unknown))}")
        if not isinstance(defaults.get("retry", DEFAULT_POLICY), RetryPolicy):
            raise ValueError(f"task type {name!r}: retry must be a jobs.retry.RetryPolicy")
        _registered[name] = TaskType(name, handler, input_schema, mode, **defaults)
        return handler

    return register


def load(modules: Iterable[str] = ()) -> dict[str, TaskType]:
    """Import the built-in handlers and `modules`; returns all task types by name.

    Raises:
        SettingsError: a module of HANDLER_MODULES cannot be imported, or registers what cannot be.
    """
    for module in BUILT_IN:
        importlib.import_module(module)
    for module in modules:
        try:
            importlib.import_module(module)
        except (ImportError, ValueError) as error:
            raise SettingsError({"HANDLER_MODULES": f"{module}: {error}"}) from None
    return _registered
