"""gunicorn's worker for clients that send or take their time.

All threads wait at one poller, and who is told that something came for a connection reads it: nothing is handed from
one thread to another. It works on the request when that has come: the head, and a body that is announced as small;
until then the connection waits on, and holds no thread. Larger bodies are received in a thread, few at once
(api.requests.Turns). All of it has a deadline, and so has each piece of an answer.
"""

import io
import os
import re
import selectors
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from gunicorn.http import wsgi
from gunicorn.http.parser import RequestParser
from gunicorn.workers.base import Worker

from api.requests import SMALL_BODY_BYTES
from deploy.connections import BYTES_A_SECOND, Connection, PatientSocket, Poller
from deploy.refusals import write_error
from deploy.wire import Answer, usual

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

REQUEST_SECONDS: Final = 10.0
"""Within this time a request must have come, plus a second more for each `BYTES_A_SECOND` of it."""

_LINGER_SECONDS: Final = 2.0  # for the last that comes, or is taken, on a connection that is to end
_BREATH_SECONDS: Final = 0.0003
_HEAD_BYTES: Final = 32 * 1024  # a longer head is gunicorn's to refuse
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*\r\n", re.IGNORECASE)
_EXPECTS: Final = re.compile(rb"\r\nexpect:", re.IGNORECASE)


def missing(seen: bytes) -> int:
    """How many more bytes (at least) must come before a request that begins like this is worked on."""
    head, end, body = seen.lstrip(b"\r\n").partition(b"\r\n\r\n")
    if not end:
        return 0 if len(seen) >= _HEAD_BYTES else 1
    if _EXPECTS.search(head):
        return 0  # it waits for our word before it sends its body
    length = _LENGTH.search(head + b"\r\n")
    announced = int(length[1]) if length else 0
    return 0 if announced > SMALL_BODY_BYTES else max(0, announced - len(body))


class PatientWorker(Worker):
    """Works on requests when they have come."""

    alive: bool
    nr: int

    def init_process(self) -> None:
        """In the new process."""
        self._poller = Poller()
        self._connections: set[Connection] = set()
        self._waiting: dict[int, Connection] = {}
        self._idle: list[None] = []  # one for each thread that waits
        self._threads = 0
        self._starting = threading.Lock()
        self._environ = {
            **wsgi.base_environ(self.cfg), "wsgi.multithread": True, "wsgi.url_scheme": "http", "SCRIPT_NAME": ""
        }  # fmt: skip
        super().init_process()

    # The main thread: lets clients in, ends those who are too slow, and ends itself.

    def run(self) -> None:
        """Until it is to end."""
        self._start_thread()
        self._swept_at = 0.0
        with selectors.DefaultSelector() as selector:
            selector.register(self.PIPE[0], selectors.EVENT_READ)  # a signal came
            is_accepting = False
            while self.alive and self.ppid == os.getppid():
                if is_accepting != (len(self._connections) < self.cfg.worker_connections):
                    is_accepting = not is_accepting
                    self._accept_from(selector, is_accepting)
                self._round(selector, 1.0)
            self.alive = False
            if is_accepting:
                self._accept_from(selector, False)
            for listener in self.sockets:
                listener.close()
            now = time.monotonic()
            for connection in list(self._waiting.values()):
                if connection.is_idle:
                    # Another request may be on its way already.
                    connection.sock.until = min(connection.sock.until, now + _LINGER_SECONDS)
            while self._connections and time.monotonic() < now + self.cfg.graceful_timeout:
                self._round(selector, 0.1)

    def _accept_from(self, selector: selectors.BaseSelector, is_accepting: bool) -> None:
        for listener in self.sockets:
            listener.setblocking(False)
            if is_accepting:
                selector.register(listener, selectors.EVENT_READ, listener)
            else:
                selector.unregister(listener)

    def _round(self, selector: selectors.BaseSelector, seconds: float) -> None:
        for key, _ in selector.select(seconds):
            if key.data:
                self._accept(key.data)
            else:
                os.read(self.PIPE[0], 4096)
        now = time.monotonic()
        if now >= self._swept_at + min(seconds, 1.0):
            self._swept_at = now
            self.notify()
            self._end_the_slow(now)

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, client = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        sock = PatientSocket(sock.family, sock.type, sock.proto, sock.detach())
        sock.setblocking(False)
        sock.until = time.monotonic() + REQUEST_SECONDS
        connection = Connection(sock, client, listener.getsockname())
        self._connections.add(connection)
        self._poller.add(connection.number)
        self._wait(connection)
        # Of many that come at once, the other processes shall have their part.
        time.sleep(_BREATH_SECONDS)

    def _end_the_slow(self, now: float) -> None:
        for number in [number for number, waits in list(self._waiting.items()) if waits.sock.until <= now]:
            connection = self._waiting.pop(number, None)
            if connection is None:
                continue  # a thread has it
            if connection.sock.until > now:
                self._wait(connection)  # a thread had it a moment ago
            elif connection.seen:
                write_error(connection.sock, 408, "Request Timeout", "The request did not arrive in time.")
                self._end(connection)
            else:
                self._close(connection)  # who sent nothing asked for nothing

    # From here on in any thread.

    def _wait(self, connection: Connection) -> None:
        self._waiting[connection.number] = connection
        self._poller.ask(connection.number)

    def _end(self, connection: Connection) -> None:
        """Close it once the client has; what is still on its way would have its system throw the answer away."""
        connection.seen, connection.is_ending = b"", True
        connection.sock.until = time.monotonic() + _LINGER_SECONDS
        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(connection)
        else:
            self._wait(connection)

    def _close(self, connection: Connection) -> None:
        self._connections.discard(connection)
        connection.sock.close()

    def _start_thread(self) -> None:
        with self._starting:
            if self._threads < self.cfg.threads and not self._idle:
                self._threads += 1
                threading.Thread(target=self._work, name=f"web-{self._threads}", daemon=True).start()

    def _work(self) -> None:
        while True:
            self._idle.append(None)
            number = self._poller.next()
            self._idle.pop()
            if connection := self._waiting.pop(number, None):
                try:
                    if not self._idle:
                        self._start_thread()
                    self._read(connection)
                except (Exception, SystemExit):
                    self.log.exception("Error on a connection")
                    self._close(connection)

    def _read(self, connection: Connection) -> None:
        """Take what has come, and answer what is there in full."""
        try:
            came = connection.sock.read()
        except BlockingIOError:
            return self._wait(connection)
        except OSError:
            return self._close(connection)
        if connection.is_ending or not (came or connection.seen):
            return self._wait(connection) if came else self._close(connection)
        if connection.is_idle:
            connection.is_idle, connection.sock.until = False, time.monotonic() + REQUEST_SECONDS
        connection.sock.until += len(came) / BYTES_A_SECOND
        connection.seen += came
        while len(connection.seen) >= connection.needed or not came:
            # When no more comes, the rest is judged as it is.
            if came and (more := missing(connection.seen)):
                connection.needed = len(connection.seen) + more
                break
            if not self._answer(connection):
                return self._end(connection)
            connection.needed = 1
            connection.is_idle = not connection.seen
            idle_seconds = self.cfg.keepalive if self.alive else _LINGER_SECONDS
            connection.sock.until = time.monotonic() + (idle_seconds if connection.is_idle else REQUEST_SECONDS)
            if connection.is_idle:
                break
        return self._wait(connection)

    def _answer(self, connection: Connection) -> bool:
        """Answer the request that has come; whether another may follow."""
        request = usual(connection.seen)
        if not request or request.length > SMALL_BODY_BYTES or len(connection.seen) < request.end + request.length:
            return self._answer_unusual(connection)
        end = request.end + request.length
        body, connection.seen = connection.seen[request.end : end], connection.seen[end:]
        environ = {**self._environ, **connection.environ, **request.environ, "wsgi.input": io.BytesIO(body)}
        return self._serve(connection, request, Answer(request, connection.sock, self.cfg), environ)

    def _answer_unusual(self, connection: Connection) -> bool:
        """Have gunicorn read the request; of its body, the app what it wants."""
        parser = RequestParser(self.cfg, connection.sock, connection.client)
        parser.unreader.unread(connection.seen)
        connection.seen = b""
        try:
            request = next(parser)
            answer, environ = wsgi.create(
                request, connection.sock, connection.client, connection.server, self.cfg, Answer
            )
        except (StopIteration, OSError):
            return False  # the client has gone
        except Exception as error:  # noqa: BLE001 - answered, and logged when it is no fault of the client's
            self.handle_error(None, connection.sock, connection.client, error)
            return False
        environ["wsgi.multithread"] = True
        if not self._serve(connection, request, answer, environ):
            return False
        # What the app left of the body is not waited for.
        connection.sock.until = min(connection.sock.until, time.monotonic())
        stays = bool(parser.finish_body(connection.sock.until + 1))
        connection.seen = parser.unreader.take_buffered()
        return stays

    def _serve(self, connection: Connection, request: Any, answer: Answer, environ: "WSGIEnvironment") -> bool:
        """Have the app answer."""
        if not self.alive or len(self._connections) > self.cfg.worker_connections - self.cfg.threads:
            answer.force_close()
        self.nr += 1
        if self.nr >= self.max_requests:
            self.alive = False
        try:
            pieces = self.wsgi(environ, answer.start_response)
            try:
                for piece in pieces:
                    answer.write(piece)
                answer.close()
            finally:
                if hasattr(pieces, "close"):
                    pieces.close()
        except ConnectionError:
            return False
        except (Exception, SystemExit) as error:
            if answer.has_begun or isinstance(error, OSError):
                self.log.exception("Error handling request")
            else:
                self.handle_error(request, connection.sock, connection.client, error)
            return False
        return not answer.should_close()
