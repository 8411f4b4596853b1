"""The decorator that makes a function a task type, and what is registered."""

import importlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from marshmallow import Schema

from jobs.errors import SettingsError
from jobs.handlers.context import Context
from jobs.retry import DEFAULT_POLICY, RetryPolicy

Handler = Callable[[Context], Awaitable[dict[str, Any]]]

BUILT_IN = tuple(
    f"jobs.handlers.{module}"
    for module in ("text_generation", "content_generation", "daily_life", "maintenance", "reports")
)


@dataclass(frozen=True, slots=True)
class TaskType:
    """A registered task type.

    Attributes:
        input_schema: validates a task's `input`.
        needs_prompt: whether `prompt` and `model` are required.
        timeout_seconds, max_retries, retry: defaults of its tasks; None: those of the settings.
        on_completion: a named statement that runs in the transaction that completes tasks of this type,
            with their `ids`.
    """

    name: str
    handler: Handler
    input_schema: type[Schema]
    needs_prompt: bool = False
    timeout_seconds: int | None = None
    max_retries: int | None = None
    retry: RetryPolicy = DEFAULT_POLICY
    on_completion: str | None = None


_registered: dict[str, TaskType] = {}


def task_type(name: str, *, input_schema: type[Schema], **defaults: Any) -> Callable[[Handler], Handler]:
    """Register the decorated coroutine function as the handler of task type `name`.

    Args:
        defaults: further attributes of `TaskType`.

    Raises:
        ValueError: the name is taken.
    """

    def register(handler: Handler) -> Handler:
        if name in _registered:
            raise ValueError(f"task type {name!r} is registered twice")
        _registered[name] = TaskType(name, handler, input_schema, **defaults)
        return handler

    return register


def load(modules: Iterable[str] = ()) -> dict[str, TaskType]:
    """Import the built-in handlers and `modules`; returns all task types by name.

    Raises:
        SettingsError: a module of HANDLER_MODULES cannot be imported.
    """
    for module in (*BUILT_IN, *modules):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise SettingsError({"HANDLER_MODULES": f"{module}: {error}"}) from None
    return _registered
