"""The decorator that makes a function a task type, and what is registered."""

import importlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from marshmallow import Schema

from jobs.errors import SettingsError
from jobs.handlers.context import Context

Handler = Callable[[Context], Awaitable[dict[str, Any]]]

BUILT_IN = ("jobs.handlers.text_generation",)


@dataclass(frozen=True, slots=True)
class TaskType:
    """A registered task type.

    Attributes:
        input_schema: validates a task's `input`.
        needs_prompt: whether `prompt` and `model` are required.
    """

    name: str
    handler: Handler
    input_schema: type[Schema]
    needs_prompt: bool


_registered: dict[str, TaskType] = {}


def task_type(name: str, *, input_schema: type[Schema], needs_prompt: bool = False) -> Callable[[Handler], Handler]:
    """Register the decorated coroutine function as the handler of task type `name`.

    Raises:
        ValueError: the name is taken.
    """

    def register(handler: Handler) -> Handler:
        if name in _registered:
            raise ValueError(f"task type {name!r} is registered twice")
        _registered[name] = TaskType(name, handler, input_schema, needs_prompt)
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
