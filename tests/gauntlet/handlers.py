"""Task types for the gauntlet: one in each lane that calls no model, and one that kills its worker."""

import os
import signal
import time
from typing import Any

from marshmallow import Schema, fields

from jobs.handlers.context import Context
from jobs.handlers.registry import task_type


class Tagged(Schema):
    """What to give back."""

    tag = fields.String(required=True)


@task_type("gauntlet_thread", input_schema=Tagged, mode="thread")
def in_thread(context: Context) -> dict[str, Any]:
    """Takes a moment, in a thread."""
    time.sleep(0.2)
    return {"tag": context.input["tag"]}


@task_type("gauntlet_process", input_schema=Tagged, mode="process")
def in_process(context: Context) -> dict[str, Any]:
    """Takes a moment, in a process."""
    time.sleep(0.3)
    return {"tag": context.input["tag"]}


@task_type("gauntlet_poison", input_schema=Tagged)
async def poison(_context: Context) -> dict[str, Any]:
    """Kills its worker."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {}
