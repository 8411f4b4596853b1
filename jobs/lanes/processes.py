"""The process lane: members that perform one task at a time, each in a process that can be killed."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from dataclasses import dataclass
from typing import Any, Final

import orjson
import psutil
import structlog

from jobs.errors import AttemptError, Cancelled, TaskError
from jobs.handlers.context import Context
from jobs.lanes import messages
from jobs.settings import child_environment

log = structlog.get_logger(__name__)

TASKS_EACH: Final = 100
"""Tasks after which a member is replaced."""

_NOT_STARTED: Final = TaskError("process_lost", "A process for it could not be started.", retryable=True)
_START_SECONDS: Final = 60.0  # for a member to come up, on a busy machine
_STARTS: Final = 2  # everybody may be told to end before a member knows that this is its worker's to decide


class HandlerRaised(Exception):
    """The handler raised; the member has logged it.

    Attributes:
        kind: the name of the exception's class.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(kind)


@dataclass(slots=True)
class Member:
    """A process and the line to it."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    tasks: int = 0

    async def end(self) -> None:
        """End it and everything it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.writer.close()
        await self.process.wait()


class Processes:
    """Members, started when first needed, kept while they are good."""

    def __init__(self, memory_limit_mb: int) -> None:
        """`memory_limit_mb`: a member that has grown beyond it is replaced after its task."""
        self._memory_limit_mb = memory_limit_mb
        self._idle: list[Member] = []

    async def run(self, context: Context, measures: dict[str, Any]) -> Any:
        """The handler's result; what it cost is added to `measures`: `cpu_seconds`, `peak_memory_mb`.

        When this is cancelled, the process is killed.

        Raises:
            AttemptError: raised by the handler, or `process_lost` when its process died.
            Cancelled, HandlerRaised: likewise from there.
        """
        member = await self._take()
        healthy = False
        try:
            member.writer.write(messages.pack_task(context.facts))
            answer = await self._answer(member, context)
            healthy = True
        finally:
            if healthy:
                await self._give_back(member)
            else:
                await member.end()
        context.count(answer["usage"])
        context.profile_page = answer["profile"]
        measures |= {name: answer[name] for name in ("cpu_seconds", "peak_memory_mb")}
        match answer.get("failed"):
            case None:
                return answer["done"]
            case "cancelled":
                raise Cancelled
            case "error":
                raise AttemptError(messages.unpack_error(answer))
            case _:
                raise HandlerRaised(answer["kind"])

    async def _answer(self, member: Member, context: Context) -> dict[str, Any]:
        facts = context.facts
        while line := await member.reader.readline():
            message: dict[str, Any] = orjson.loads(line)
            if "progress" in message:
                percent, said = message["progress"]
                context.line.progress(facts.task_id, facts.fence, percent, said)
            elif "text" in message:
                context.line.text(facts.task_id, facts.fence, message["text"])
            else:
                return message
        code = await member.process.wait()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
        raise AttemptError(TaskError("process_lost", f"The process that performed it {how}.", retryable=True))

    async def _take(self) -> Member:
        while self._idle:
            member = self._idle.pop()
            if member.process.returncode is None and not member.reader.at_eof():
                member.tasks += 1
                return member
            await member.end()
        return await self._start()

    async def _start(self, tries: int = _STARTS) -> Member:
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "jobs.lanes.member", str(theirs.fileno()), str(os.getpid()),
                pass_fds=[theirs.fileno()], stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
                env=child_environment(),
            )  # fmt: skip
        except OSError as error:  # no room for another process
            ours.close()
            raise AttemptError(_NOT_STARTED) from error
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours, limit=messages.LONGEST_LINE)
        member = Member(process, reader, writer, tasks=1)
        try:
            async with asyncio.timeout(_START_SECONDS):
                ready = await reader.readline()
        except TimeoutError:
            ready = b""
        except BaseException:
            await member.end()
            raise
        if not ready:
            await member.end()
            if process.returncode == -signal.SIGTERM and tries > 1:
                return await self._start(tries - 1)
            raise AttemptError(_NOT_STARTED)
        return member

    async def _give_back(self, member: Member) -> None:
        try:
            grown = psutil.Process(member.process.pid).memory_info().rss > self._memory_limit_mb * 2**20
        except psutil.Error:
            grown = True
        if member.tasks >= TASKS_EACH or grown:
            await member.end()
        else:
            self._idle.append(member)

    async def close(self) -> None:
        """End the idle ones; those that work end with their attempts."""
        while self._idle:
            await self._idle.pop().end()
