"""Task types that do not keep secrets to themselves (for HANDLER_MODULES)."""

import logging
import os
import sys
import threading
import warnings
from typing import Any

from marshmallow import Schema

from jobs.errors import AttemptError, TaskError
from jobs.handlers.context import Context
from jobs.handlers.registry import task_type


class NoInput(Schema):
    """Nothing."""


def leak(context: Context) -> dict[str, Any]:
    """Log, warn, report, and fail with a secret of the environment."""
    secret = os.environ["LLM_API_KEY"]
    context.log.warning("leaking", held={"deep": [secret, {"Authorization": f"Bearer {secret}"}]})
    logging.getLogger("somebody").error("headers %r", {"x-api-key": secret})
    warnings.warn(f"warned of {secret}", stacklevel=1)
    thread = threading.Thread(target=lambda: os.environ[secret])
    thread.start()
    thread.join()
    sys.stderr.write(f"said {secret}\n")
    context.progress(10, f"working with {secret}")
    try:
        raise ValueError(secret)
    except ValueError as error:
        error.add_note(f"noted {secret}")
        raise RuntimeError(f"failed with {secret}") from error


@task_type("leak_in_coroutine", input_schema=NoInput, max_retries=0)
async def leak_in_coroutine(context: Context) -> dict[str, Any]:
    """In the worker's loop."""
    return leak(context)


@task_type("leak_in_thread", input_schema=NoInput, mode="thread", max_retries=0)
def leak_in_thread(context: Context) -> dict[str, Any]:
    """In a thread."""
    return leak(context)


@task_type("leak_in_process", input_schema=NoInput, mode="process", max_retries=0)
def leak_in_process(context: Context) -> dict[str, Any]:
    """In a process."""
    return leak(context)


@task_type("leak_on_purpose", input_schema=NoInput, mode="process", max_retries=0)
def leak_on_purpose(context: Context) -> dict[str, Any]:
    """As the task's error."""
    raise AttemptError(TaskError("told", f"The key is {os.environ['LLM_API_KEY']}."))
