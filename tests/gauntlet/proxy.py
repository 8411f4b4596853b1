"""TCP proxies between the processes and their servers, which can be cut, or go silent."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal

State = Literal["open", "cut", "silent"]

# PostgreSQL's ReadyForQuery, outside a transaction: see its message formats.
_COMMITTED = b"Z\x00\x00\x00\x05I"


class Proxy:
    """One listening port; `state` holds for all its connections."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._server: asyncio.Server | None = None
        self._target = target
        self._state: State = "open"
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.on_commit: Callable[[], object] | None = None
        self.commits_left = 0

    async def listen(self) -> None:
        """Take a free port."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Take no more connections, and end those there are."""
        assert self._server
        self._server.close()
        await self.set("cut")

    async def set(self, state: State) -> None:
        """cut: connections are closed, and new ones at once; silent: nothing passes, and nothing is closed."""
        self._state = state
        if state == "silent":
            self._flowing.clear()
        else:
            self._flowing.set()
        if state == "cut":
            for writer in self._writers:
                writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._flowing.wait()
            if self._state == "cut":
                return
            with suppress(OSError):
                there, back = await asyncio.open_connection("127.0.0.1", self._target)
                self._writers.add(back)
                try:
                    await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
                finally:
                    self._writers.discard(back)
                    back.transport.abort()
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while True:
            data = await source.read(1 << 16)
            if not data:
                # One side is gone: so is the other.
                raise ConnectionResetError
            await self._flowing.wait()
            self.commits_left -= data.count(_COMMITTED)
            if self.on_commit and _COMMITTED in data and self.commits_left <= 0:
                on_commit, self.on_commit = self.on_commit, None
                on_commit()
                raise ConnectionResetError
            sink.write(data)
            await sink.drain()


class Proxies:
    """Proxies by name, on an event loop of their own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="proxies")
        self._thread.start()
        self._proxies: dict[str, Proxy] = {}

    def add(self, name: str, target: int) -> int:
        """A port that leads to `target`."""

        async def listen() -> Proxy:
            proxy = Proxy(target)
            await proxy.listen()
            return proxy

        proxy = asyncio.run_coroutine_threadsafe(listen(), self._loop).result(10)
        self._proxies[name] = proxy
        return proxy.port

    def set(self, end: str, state: State) -> None:
        """Have all whose names end so be in this state."""
        for name, proxy in self._proxies.items():
            if name.endswith(end):
                asyncio.run_coroutine_threadsafe(proxy.set(state), self._loop).result(10)

    @contextmanager
    def at_commit(self, name: str, number: int, do: Callable[[], object]) -> Iterator[None]:
        """In the block, call once PostgreSQL has done so many things, of the last of which the client never hears."""
        proxy = self._proxies[name]
        proxy.commits_left, proxy.on_commit = number, do
        try:
            yield
        finally:
            proxy.on_commit = None

    def close(self) -> None:
        """Stop, whatever is connected."""

        async def end() -> None:
            for proxy in self._proxies.values():
                await proxy.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            if others:
                await asyncio.wait(others, timeout=5)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
