"""`make run`: everything on one machine, in one terminal.

Starts PostgreSQL and Redis where none are given, migrates, starts web, worker and scheduler, starts
again whatever dies, and stops all of it on SIGINT or SIGTERM.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg

from deploy import embedded
from deploy.terminal import say, terminal
from jobs import access, settings
from jobs.errors import SettingsError
from jobs.handlers import registry
from jobs.prompts import Prompts
from jobs.providers import catalog
from jobs.queues import RedisError, connect
from jobs.secrets import clean, learn
from jobs.settings import Settings
from jobs.store.migrate import migrate

_START_SECONDS = 60.0
_POLL_SECONDS = 0.05
_FIRST_DELAY, _MOST_DELAY = 0.5, 30.0  # before a process that died is started again; doubles each time
_STEADY_SECONDS = 30.0  # a process that lived so long starts with the first delay again
_SERVER_STOP_SECONDS = 20.0

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class StartError(Exception):
    """Something that cannot be started; the message is one line for a person."""


class Supervised:
    """A child process that is started again when it dies, until told to stop."""

    def __init__(self, name: str, command: list[str], *, stop_signal: int = signal.SIGTERM, **popen: Any) -> None:
        self.name = name
        self._command = command
        self._stop_signal = stop_signal
        self._popen = popen
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start it, and keep it running."""
        self._task = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        delay = _FIRST_DELAY
        while not self._stopping:
            began = time.monotonic()
            code = await self._run_once()
            if self._stopping:
                return
            if time.monotonic() - began > _STEADY_SECONDS:
                delay = _FIRST_DELAY
            say("pressroom", f"{self.name} ended with code {code}; starting it again in {delay:g} s")
            await asyncio.sleep(delay)
            delay = min(2 * delay, _MOST_DELAY)

    async def _run_once(self) -> int:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            # Its own session: Ctrl-C comes to us, and we stop the others in order.
            start_new_session=True,
            preexec_fn=self._die_with_parent,
            limit=1 << 20,
            **self._popen,
        )
        assert self._process.stdout  # noqa: S101 - asked for above
        while True:
            try:
                line = await self._process.stdout.readline()
            except ValueError:  # a line longer than the limit
                continue
            if not line:
                break
            say(self.name, line.decode(errors="replace").rstrip("\n"))
        return await self._process.wait()

    def _die_with_parent(self) -> None:
        if _libc:
            _libc.prctl(_PR_SET_PDEATHSIG, int(self._stop_signal))

    async def stop(self, patience: float) -> None:
        """Ask it to end; kill it, and whatever it started, when it has not after `patience` seconds."""
        self._stopping = True
        if self._process and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(self._stop_signal)
            try:
                await asyncio.wait_for(self._process.wait(), patience)
            except TimeoutError:
                say("pressroom", f"{self.name} did not stop in {patience:g} s; killing it")
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                await self._process.wait()
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


class Instance:
    """One running Pressroom."""

    def __init__(self, configured: Settings) -> None:
        self._settings = configured
        self._servers: list[Supervised] = []
        self._processes: list[Supervised] = []
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Start everything, wait for a signal, stop everything."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled)
        began = time.monotonic()
        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting
                self._welcome(time.monotonic() - began)
                await stopping
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await self._stop_all()

    def _signalled(self) -> None:
        if self._stop.is_set():
            for supervised in self._processes:
                asyncio.ensure_future(supervised.stop(0))  # noqa: RUF006 - _stop_all waits for the same processes
        self._stop.set()

    async def _start(self) -> None:
        data_dir = self._settings.data_dir
        if self._settings.embedded_database or self._settings.embedded_redis:
            await asyncio.to_thread(embedded.stop_left_over, data_dir)
        if self._settings.embedded_redis:
            self._serve(embedded.prepare_redis(data_dir))
        if self._settings.embedded_database:
            self._serve(await asyncio.to_thread(embedded.prepare_postgres, data_dir))
        if self._settings.embedded_redis:
            await self._until("Redis answers", lambda: asyncio.to_thread(embedded.redis_answers, data_dir))
        if self._settings.embedded_database:
            await self._until("PostgreSQL answers", lambda: asyncio.to_thread(embedded.postgres_answers, data_dir))
        try:
            done = await asyncio.to_thread(migrate, self._settings.direct_url)
        except psycopg.Error as error:
            raise StartError(f"cannot migrate the database: {str(error).partition(chr(10))[0]}") from error
        if done:
            say("pressroom", f"database migrated: {', '.join(done)}")
        await asyncio.to_thread(access.check_exposure, self._settings)
        try:
            await asyncio.to_thread(connect(self._settings.redis_url).ping)
        except RedisError as error:
            raise StartError(f"cannot reach Redis: {error}") from error
        python = [sys.executable, "-m"]
        commands = {
            "web": [*python, "gunicorn", "-c", "deploy/gunicorn.conf.py"],
            "worker": [*python, "jobs.worker"],
            "scheduler": [*python, "scheduler"],
        }
        environment = settings.child_environment(
            DATABASE_URL=self._settings.database_url, REDIS_URL=self._settings.redis_url, PYTHONUNBUFFERED="1"
        )
        for name, command in commands.items():
            supervised = Supervised(name, command, env=environment)
            self._processes.append(supervised)
            supervised.start()
        await self._until("everything is ready", self._is_ready)

    def _serve(self, server: embedded.Server) -> None:
        supervised = Supervised(server.name, server.command, stop_signal=server.stop_signal, cwd="/", **server.identity)
        self._servers.append(supervised)
        supervised.start()

    async def _until(self, what: str, check: Callable[[], Awaitable[bool]]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not await check():
            if time.monotonic() > deadline:
                raise StartError(f"waited {_START_SECONDS:g} s, but not: {what}")
            await asyncio.sleep(_POLL_SECONDS)

    async def _is_ready(self) -> bool:
        """Whether /health says that all is well and a worker is there."""
        host = "localhost" if self._settings.host in ("0.0.0.0", "::") else self._settings.host  # noqa: S104
        try:
            reader, writer = await asyncio.open_connection(host, self._settings.port)
        except OSError:
            return False
        try:
            writer.write(b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), 5)
        except (OSError, TimeoutError):
            return False
        finally:
            writer.close()
        return b'"status":"healthy"' in answer and b'"workers":0' not in answer

    def _welcome(self, seconds: float) -> None:
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        base = f"http://{host}:{self._settings.port}"
        say("pressroom", f"ready after {seconds:.1f} s; Ctrl-C stops everything")
        for what, path in {
            "console": "/",
            "API docs": "/docs",
            "dashboard": "/rq/",
            "health": "/health",
        }.items():
            say("pressroom", f"  {what:<10} {base}{path}")
        if not (self._settings.llm_base_url or self._settings.providers_file):
            say(
                "pressroom",
                "  no model endpoint is set (LLM_BASE_URL): answers come from the offline provider",
            )

    async def _stop_all(self) -> None:
        grace = self._settings.shutdown_grace_seconds
        say("pressroom", f"stopping; running tasks get up to {grace:g} s (Ctrl-C again: at once)")
        # A little more than the processes give themselves.
        patience = grace + 3
        await asyncio.gather(*(supervised.stop(patience) for supervised in self._processes))
        await asyncio.gather(*(server.stop(_SERVER_STOP_SECONDS) for server in self._servers))
        say("pressroom", "stopped")


@contextlib.contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """Hold the lock of a DATA_DIR.

    Raises:
        StartError: another run holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise StartError(
                f"already running with the data in {directory.parent}, process {lock.read().strip()}"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def check_port(host: str, port: int) -> None:
    """Raises `StartError` when the address cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StartError(f"cannot listen on {host} port {port} ({error.strerror}); set PORT to another") from None


def main() -> int:
    """Run until told to stop; 0 after a clean stop, 1 when it could not start, 2 for wrong settings."""
    configured = settings.load_or_exit()
    terminal.as_json = configured.log_format == "json"
    try:
        # What the processes would otherwise stumble over one after another.
        learn(catalog.keys(configured))
        registry.load(configured.handler_modules)
        Prompts(configured.prompts_dir)
        check_port(configured.host, configured.port)
        with only_one(configured.run_dir):
            asyncio.run(Instance(configured).run())
    except SettingsError as error:
        settings.fail(error)
    except OSError as error:
        sys.stderr.write(f"pressroom: cannot use DATA_DIR {configured.data_dir}: {error.strerror or error}\n")
        return 1
    except (StartError, embedded.EmbeddedError) as error:
        sys.stderr.write(clean(f"pressroom: {error}\n"))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
