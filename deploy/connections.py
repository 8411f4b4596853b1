"""Connections of clients, and how a web process hears that something came for one of them."""

import select
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from typing_extensions import Buffer

BYTES_A_SECOND: Final = 500_000
"""What is sent slower than this (and the time that all of it has) is not waited for."""

_ANSWER_SECONDS: Final = 10.0  # within which the client must have taken the next megabyte of the answer
_READ_BYTES: Final = 32 * 1024
_PIECE_BYTES: Final = 1024 * 1024


class PatientSocket(socket.socket):
    """A connection on which reading ends at a deadline, which what comes moves, and writing after a while.

    `TimeoutError` is raised then. Between requests nothing blocks (`read`).
    """

    until = 0.0

    def read(self) -> bytes:
        """What has come, without waiting; BlockingIOError when that is nothing."""
        return super().recv(_READ_BYTES)

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """As a socket's."""
        self.settimeout(max(self.until - time.monotonic(), 0.001))
        try:
            received = super().recv(size, flags)
        finally:
            self.setblocking(False)
        self.until += len(received) / BYTES_A_SECOND
        return received

    def sendall(self, data: "Buffer", flags: int = 0, /) -> None:
        """As a socket's, whose time-out is for all of it, but piece by piece."""
        view = memoryview(data)
        with suppress(BlockingIOError):
            view = view[super().send(view, flags) :]
        if not view:
            return
        self.settimeout(_ANSWER_SECONDS)
        try:
            for start in range(0, len(view), _PIECE_BYTES):
                super().sendall(view[start : start + _PIECE_BYTES], flags)
        finally:
            self.setblocking(False)


class Connection:
    """A client's; it belongs to whoever took it out of the worker's `_waiting`."""

    def __init__(self, sock: PatientSocket, client: Any, server: Any) -> None:
        self.sock, self.client, self.server = sock, client, server
        self.number = sock.fileno()
        self.environ = {
            "gunicorn.socket": sock,
            "REMOTE_ADDR": client[0],
            "REMOTE_PORT": str(client[1]),
            "SERVER_NAME": server[0],
            "SERVER_PORT": str(server[1]),
        }
        self.seen = b""  # what has come of the next request; idle until something has,
        self.needed = 1  # and looked at again when it is so long
        self.is_idle, self.is_ending = True, False


class Poller:
    """Tells one of the threads that wait, once, that something came; then it is to be asked again."""

    if sys.platform == "linux":

        def __init__(self) -> None:
            self._epoll = select.epoll()

        def add(self, number: int) -> None:
            """A new file; nothing is told of it yet."""
            self._epoll.register(number, 0)

        def ask(self, number: int) -> None:
            """Tell when something is there to be read."""
            self._epoll.modify(number, select.EPOLLIN | select.EPOLLONESHOT)

        def next(self) -> int:
            """Wait for the next file of which that is so."""
            return self._epoll.poll(-1, 1)[0][0]

    else:

        def __init__(self) -> None:
            self._kqueue = select.kqueue()

        def add(self, number: int) -> None:
            """A new file."""

        def ask(self, number: int) -> None:
            """Tell when something is there to be read."""
            once = select.kevent(number, select.KQ_FILTER_READ, select.KQ_EV_ADD | select.KQ_EV_ONESHOT)
            self._kqueue.control([once], 0)

        def next(self) -> int:
            """Wait for the next file of which that is so."""
            return self._kqueue.control(None, 1, None)[0].ident
