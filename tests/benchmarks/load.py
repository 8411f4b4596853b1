"""A client that costs little: requests over raw connections, each sent when the one before was answered.

`python -m tests.benchmarks.load '{"port": 8000, "path": "/tasks", "body": "{}", "connections": 32, "seconds": 3}'`
"""

import asyncio
import json
import statistics
import sys
import time
from typing import Any, cast

import uvloop

_WARM_SECONDS = 1.0


class Client(asyncio.Protocol):
    """One connection. An answer has a Content-Length, as those of all that are compared have."""

    def __init__(self, request: bytes, until: float, pause: float, done: "asyncio.Future[None]") -> None:
        self.taken: list[tuple[float, float]] = []  # when each request was sent, and how long its answer took
        self.refused = 0
        self._request, self._until, self._pause, self._done = request, until, pause, done
        self._received = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        if self._sent_at >= self._until:
            self._transport.close()
        else:
            self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """An answer, or a part of one."""
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self._received = b""
        self.taken.append((self._sent_at, time.perf_counter() - self._sent_at))
        self.refused += head[9:10] != b"2"
        if self._pause:
            asyncio.get_running_loop().call_later(self._pause, self._send)
        else:
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        """The end."""
        if not self._done.done():
            self._done.set_result(None)


async def load(asked: dict[str, Any]) -> dict[str, float]:
    """Keep the server busy for so many seconds; `pause` seconds between the requests of a connection."""
    loop = asyncio.get_running_loop()
    body = asked.get("body", "").encode()
    head = f"{'POST' if body else 'GET'} {asked['path']} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n" if body else "\r\n"
    begun = time.perf_counter()
    until = begun + _WARM_SECONDS + asked["seconds"]
    clients, ends = [], []
    for _ in range(asked["connections"]):
        ends.append(loop.create_future())
        client = Client(head.encode() + body, until, asked.get("pause", 0.0), ends[-1])
        clients.append(client)
        await loop.create_connection(lambda client=client: client, "127.0.0.1", asked["port"])  # type: ignore[misc]
    await asyncio.wait_for(asyncio.gather(*ends), asked["seconds"] + 30)
    if refused := sum(client.refused for client in clients):
        raise RuntimeError(f"{refused} requests were refused")
    answered = [answer for client in clients for answer in client.taken]
    taken = [took for sent, took in answered if sent >= begun + _WARM_SECONDS]
    ended = [sent + took for sent, took in answered if begun + _WARM_SECONDS <= sent + took <= until]
    ranks = statistics.quantiles(taken, n=100)
    return {
        "requests/s": len(ended) / asked["seconds"],
        "median [ms]": 1000 * ranks[49],
        "p99 [ms]": 1000 * ranks[98],
        "slowest [ms]": 1000 * max(taken),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(uvloop.run(load(json.loads(sys.argv[1])))) + "\n")
