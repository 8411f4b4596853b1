"""gunicorn's threads, kept from clients that send or take their time.

A connection gets a thread only when its request has come: the head, and a body that is announced as small. Until then
the main thread's poller looks at what the kernel has received, without taking it. Larger bodies are read in a thread,
few at once (api.requests.Turns). All of it has a deadline, and so has each piece of an answer.
"""

import re
import selectors
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from gunicorn.workers.gthread import TConn, ThreadWorker

from api.requests import SMALL_BODY_BYTES
from deploy.refusals import write_error

if TYPE_CHECKING:
    from typing_extensions import Buffer

REQUEST_SECONDS: Final = 10.0
"""Within this time a request must have come, plus a second more for each `_BYTES_A_SECOND` of it."""

_BYTES_A_SECOND: Final = 500_000
_ANSWER_SECONDS: Final = 10.0  # within which the client must have taken the next megabyte of the answer
_HEAD_BYTES: Final = 32 * 1024  # a longer head is gunicorn's to refuse
_PEEK_BYTES: Final = _HEAD_BYTES + SMALL_BODY_BYTES
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*\r\n", re.IGNORECASE)
_EXPECTS: Final = re.compile(rb"\r\nexpect:", re.IGNORECASE)
_PIECE_BYTES: Final = 1024 * 1024


class PatientSocket(socket.socket):
    """A connection on which reading ends at a deadline, which what comes moves, and writing after a while.

    `TimeoutError` is raised then.
    """

    until = 0.0

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """As a socket's."""
        self.settimeout(max(self.until - time.monotonic(), 0.001))
        received = super().recv(size, flags)
        self.until += len(received) / _BYTES_A_SECOND
        self.settimeout(_ANSWER_SECONDS)
        return received

    def sendall(self, data: "Buffer", flags: int = 0, /) -> None:
        """As a socket's, whose time-out is for all of it, but piece by piece."""
        view = memoryview(data)
        for start in range(0, len(view), _PIECE_BYTES):
            super().sendall(view[start : start + _PIECE_BYTES], flags)

    def shutdown(self, how: int, /) -> None:
        """As a socket's; gunicorn then waits, in its main thread, for what the client may still send: not here."""
        self.until = 0.0
        super().shutdown(how)


def missing(seen: bytes) -> int:
    """How many more bytes (at least) must come before a request that begins like this is given to a thread."""
    head, end, body = seen.lstrip(b"\r\n").partition(b"\r\n\r\n")
    if not end:
        return 0 if len(seen) >= _HEAD_BYTES else 1
    if _EXPECTS.search(head):
        return 0  # it waits for our word before it sends its body
    length = _LENGTH.search(head + b"\r\n")
    announced = int(length[1]) if length else 0
    return 0 if announced > SMALL_BODY_BYTES else max(0, announced - len(body))


class PatientWorker(ThreadWorker):
    """Hands requests to threads when they have come."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._coming: dict[TConn, int] = {}  # -> how much of it has; oldest first

    def enqueue_req(self, conn: TConn) -> None:
        """Wait for the request; gunicorn calls this with a new connection, or one on which another request begins."""
        if not isinstance(conn.sock, PatientSocket):
            conn.sock = PatientSocket(fileno=conn.sock.detach())
        conn.sock.until = time.monotonic() + REQUEST_SECONDS
        conn.data_ready = True
        conn.sock.setblocking(False)
        self._look(conn)

    def _look(self, conn: TConn) -> None:
        read = conn.parser.unreader.buf.getvalue() if conn.parser else b""
        try:
            seen = socket.socket.recv(conn.sock, _PEEK_BYTES, socket.MSG_PEEK)
            more = missing(read + seen) if seen else 0
        except BlockingIOError:
            seen, more = b"", missing(read)
        except OSError:
            more = 0  # the thread will find out
        if more and len(seen) != self._coming.get(conn):
            # Called again only when so many have come: without this, the poller would not rest.
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, len(seen) + more)
            if conn not in self._coming:
                self.poller.register(conn.sock, selectors.EVENT_READ, self._looker(conn))
            self._coming[conn] = len(seen)
        else:
            # It has come; or nothing more will, and the thread finds that out.
            if self._coming.pop(conn, None) is not None:
                self.poller.unregister(conn.sock)
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            super().enqueue_req(conn)

    def _looker(self, conn: TConn) -> Callable[[Any], None]:
        return lambda _socket: self._look(conn)

    def _keepalive_after(self, conn: TConn, keepalive: bool) -> bool:
        """Whether another request may follow; what the app left unread of a body is not waited for."""
        conn.sock.until = min(conn.sock.until, time.monotonic())
        return bool(super()._keepalive_after(conn, keepalive))

    def murder_pending(self) -> None:
        """End what has not come in time; gunicorn calls this about every second."""
        super().murder_pending()
        now = time.monotonic()
        for conn in list(self._coming):
            if conn.sock.until > now:
                return
            del self._coming[conn]
            self.poller.unregister(conn.sock)
            self.nr_conns -= 1
            self._refuse(conn)

    def _refuse(self, conn: TConn) -> None:
        try:
            # Who sent nothing asked for nothing.
            if socket.socket.recv(conn.sock, 1, socket.MSG_PEEK):
                write_error(conn.sock, 408, "Request Timeout", "The request did not arrive in time.")
        except OSError:
            pass
        conn.close()
