"""Executors: what one firing of a schedule runs. Each is a function, a parameter schema and a decorator."""

from scheduler.executors import content, single
from scheduler.executors.registry import EXECUTORS, Executor

__all__ = ["EXECUTORS", "Executor", "content", "single"]
