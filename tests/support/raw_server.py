"""A server that answers a request with the bytes it was given, and hangs up."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BODY = b'{"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]}'
ODD_ANSWERS = [
    b"",
    b"\r\n\r\n",
    b"\x16\x03\x01\x02\x00",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"HTTP/9.9 200 OK\r\n\r\n" + BODY,
    b"HTTP/1.1 99999 What\r\n\r\n",
    b"HTTP/1.1 600 What\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 \xff\xfe\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"Content-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\n\r\n",
    b"HTTP/1.1 307 Elsewhere\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 429 Slow\r\nRetry-After: Thu, 01 Jan 0001 00:00:00 -0000\r\nContent-Length: 0\r\n\r\n",
    HEAD + b"Content-Length: 5\r\n\r\n" + BODY,
    HEAD + b"Content-Length: 999999\r\n\r\n" + BODY,
    HEAD + b"Content-Length: -1\r\n\r\n" + BODY,
    HEAD + b"Content-Length: many\r\n\r\n" + BODY,
    HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + BODY,
    HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + BODY,
    HEAD + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n" + BODY,
    HEAD + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"a',
    HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    HEAD + b"X: " + b"y" * 100_000 + b"\r\n\r\n" + BODY,
    HEAD + b"".join(b"X-%d: y\r\n" % n for n in range(10_000)) + b"\r\n" + BODY,
    HEAD + b"No colon here\r\n\r\n" + BODY,
    HEAD + b"Set-Cookie: =;;\x01=\r\nSet-Cookie: a=b; Expires=never\r\nContent-Length: 2\r\n\r\n{}",
    HEAD + b"Content-Encoding: \xc3\xa9\r\nContent-Length: 2\r\n\r\n{}",
    HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
]


@asynccontextmanager
async def answering() -> AsyncIterator[tuple[str, deque[bytes]]]:
    """Serve for the block; yields the base URL, and the answers to come."""
    answers: deque[bytes] = deque()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers.popleft())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", answers
