"""Task types that behave, and misbehave, in each lane."""

import asyncio
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from typing import Any

from marshmallow import Schema, fields

from jobs.handlers.context import Context, current
from jobs.handlers.registry import task_type


class Wish(Schema):
    """What to do."""

    what = fields.String(required=True)
    seconds = fields.Float(load_default=0.0)


def _report() -> dict[str, Any]:
    """From anywhere below a handler."""
    context = current()
    context.progress(50, "halfway")
    context.stream("text of a task ")
    context.log.info("below the handler")
    return {"task_id": context.task_id, "attempt": context.attempt, "left": context.remaining > 0}


@task_type("in_coroutine", input_schema=Wish)
async def in_coroutine(context: Context) -> dict[str, Any]:
    """On the loop."""
    match context.input["what"]:
        case "resist":
            until = time.monotonic() + context.input["seconds"]
            while time.monotonic() < until:
                try:
                    await asyncio.sleep(0.1)
                except asyncio.CancelledError:
                    continue
        case "block":
            time.sleep(context.input["seconds"])
        case "wait":
            await asyncio.sleep(context.input["seconds"])
    return {**_report(), "pid": os.getpid()}


@task_type("in_thread", input_schema=Wish, mode="thread")
def in_thread(context: Context) -> dict[str, Any]:
    """In a thread of the worker."""
    until = time.monotonic() + context.input["seconds"]
    while time.monotonic() < until:
        time.sleep(0.05)
        if context.input["what"] == "cooperate":
            context.check()
    return {**_report(), "pid": os.getpid(), "thread": threading.current_thread().name}


@task_type("in_process", input_schema=Wish, mode="process", max_retries=1)
def in_process(context: Context) -> dict[str, Any]:
    """In a process of its own."""
    match context.input["what"]:
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit":
            os._exit(3)
        case "raise":
            raise KeyError("no")
        case "unserialisable":
            return {"what": object()}
        case "spin":
            until = time.monotonic() + context.input["seconds"]
            while time.monotonic() < until:
                pass
        case "pool":
            with multiprocessing.get_context("fork").Pool(1) as pool:  # whose end sends SIGTERM
                return {"sum": pool.apply(sum, ([1, 2],)), "pid": os.getpid()}
        case "terminate":
            with subprocess.Popen(["sleep", "60"]) as started:
                started.terminate()
                return {"code": started.wait(), "pid": os.getpid()}
        case "spawn":
            subprocess.run(["sleep", "60"], check=False)
        case "allocate":
            return {**_report(), "size": len(bytearray(200 * 2**20)), "pid": os.getpid()}
    return {**_report(), "pid": os.getpid()}
