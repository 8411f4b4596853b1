"""Task types that do next to nothing, for HANDLER_MODULES: what is measured then is Pressroom itself."""

import asyncio
import time
from typing import Any

from marshmallow import Schema, fields

from jobs.handlers.context import Context
from jobs.handlers.registry import task_type


class NoInput(Schema):
    """Nothing."""


class Nap(Schema):
    """How long."""

    seconds = fields.Float(required=True)


@task_type("bench_noop", input_schema=NoInput)
async def noop(context: Context) -> dict[str, Any]:
    """Nothing."""
    return {}


@task_type("bench_began", input_schema=NoInput)
async def began(context: Context) -> dict[str, Any]:
    """When its handler began, by the machine's clock."""
    return {"at": time.time()}


@task_type("bench_nap", input_schema=Nap)
async def nap(context: Context) -> dict[str, Any]:
    """Hold a slot."""
    await asyncio.sleep(context.input["seconds"])
    return {}
