"""The web worker: what it reads itself it reads as gunicorn does, in whatever pieces it comes; and its limits."""

import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from gunicorn import util
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.http import wsgi
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader
from gunicorn.workers.base import Worker
from hypothesis import example, given
from hypothesis import strategies as st

from deploy import connections, patience, refusals
from deploy.wire import usual
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

HEAD = b"POST /a%2fb/%ff?x=%20&y HTTP/1.1\r\nHost: localhost\r\nX-A:\t1 \r\nContent-Length: 5\r\n"
REQUEST = HEAD + b"\r\nhello"
GET = b"GET /%b HTTP/1.1\r\nHost: localhost\r\n\r\n"
LATER = {"wsgi.input", "wsgi.errors", "wsgi.early_hints", "gunicorn.socket"}
PARTS = [
    b" ", b"\t", b"\r", b"\n", b"\r\n", b":", b"_", b"-", b"\x00", b"\x7f", b"\xe4", b"/", b"//", b"?", b"#", b"%",
    b"\r\n\r\n", b"\r\nX: y", b"\r\n z", b"HTTP/1.0", b"\r\nX_A: 2", b"\r\nX-A: 2", b"\r\nContent-Length: 5",
    b"\r\nTransfer-Encoding: chunked", b"\r\nExpect: 100-continue", b"\r\nConnection: close", b"\r\nHost: b", b"+",
    b"5", b"[", b"*", b"http://a", b"GET", b"x" * 9000, b"\r\nX: y" * 100,
]  # fmt: skip


def settings() -> Any:
    made = Config()
    made.set("limit_request_line", 8190)
    made.set("forwarded_allow_ips", "")
    made.set("forwarder_headers", "")
    made.set("keepalive", 30)
    made.set("graceful_timeout", 5)
    made.set("threads", 8)
    made.set("worker_connections", 100)
    return made


CONFIG = settings()


@given(st.lists(st.tuples(st.integers(0, len(HEAD)), st.integers(0, 4), st.sampled_from(PARTS)), max_size=3))
@example([])
def test_what_is_usual_gunicorn_reads_the_same_way(changes: list[tuple[int, int, bytes]]) -> None:
    seen = HEAD
    for place, gone, put in changes:
        seen = seen[:place] + put + seen[place + gone :]
    seen += b"\r\n"
    found = usual(seen)
    if not changes:
        assert found
    if found is None:
        return
    theirs = Request(CONFIG, IterUnreader([seen, b""]), ("127.0.0.1", 5))
    _, environ = wsgi.create(theirs, None, ("127.0.0.1", 5), ("127.0.0.1", 80), CONFIG)
    common = {**wsgi.base_environ(CONFIG), "wsgi.url_scheme": "http", "SCRIPT_NAME": ""}
    about = {"REMOTE_ADDR": "127.0.0.1", "REMOTE_PORT": "5", "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "80"}
    ours = {**common, **about, **found.environ}
    assert {key: value for key, value in environ.items() if key not in LATER} == {
        key: value for key, value in ours.items() if key not in LATER
    }
    assert (found.should_close(), found.version) == (theirs.should_close(), theirs.version)
    assert theirs.unreader.buf.getvalue() == seen[found.end :]
    assert found.length == theirs.body.reader.length


class Server:
    """The worker in threads of this process, with an app of ours."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.closed = 0
        self.go_on = threading.Event()
        self.worker = patience.PatientWorker(1, os.getppid(), [self.listener], None, 30, CONFIG, Logger(CONFIG))
        monkeypatch.setattr(Worker, "init_process", lambda _: None)  # it is about signals
        self.worker.init_process()
        self.worker.PIPE = os.pipe()
        self.worker.wsgi = self.app
        monkeypatch.setattr(util, "write_error", refusals.write_error)
        self.address = self.listener.getsockname()
        self.thread = threading.Thread(target=self.worker.run)
        self.thread.start()

    def app(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        path, body = environ["PATH_INFO"], environ["wsgi.input"].read()
        if path == "/fails":
            raise RuntimeError
        if path == "/huge":
            start_response("200 OK", [("Content-Length", str(64 * 1024 * 1024))])
            return self.pieces([bytes(1024 * 1024)] * 64)
        if path == "/empty":
            start_response("204 NO CONTENT", [])
            return self.pieces([])
        if path in ("/stream", "/breaks", "/waits"):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return self.pieces([b"first", b"", b"second"], path)
        text = b"%b %b" % (path.encode("latin-1"), body)
        start_response("200 OK", [("Content-Length", str(len(text)))])
        return self.pieces([text])

    def pieces(self, pieces: list[bytes], path: str = "") -> Iterator[bytes]:
        try:
            for number, piece in enumerate(pieces):
                if number and path == "/breaks":
                    raise RuntimeError
                if number and path == "/waits":
                    self.go_on.wait(10)
                yield piece
        finally:
            self.closed += 1

    def stop(self) -> None:
        self.worker.alive = False
        os.write(self.worker.PIPE[1], b"x")
        self.thread.join(10)
        assert not self.thread.is_alive()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=5)

    def ask(self, *pieces: bytes, pause: float = 0.0) -> bytes:
        """Everything that is answered until the connection ends."""
        with self.connect() as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    started = Server(monkeypatch)
    yield started
    started.go_on.set()
    started.stop()


def bodies(answers: bytes) -> list[bytes]:
    return [answer.partition(b"\r\n\r\n")[2] for answer in answers.split(b"HTTP/1.1 200 OK\r\n")[1:]]


def test_a_request_may_come_in_two_pieces_split_anywhere(server: Server) -> None:
    for place in range(1, len(REQUEST)):
        assert bodies(server.ask(REQUEST[:place], REQUEST[place:], pause=0.001)) == [
            b"/a/b/\xff".join([b"", b" hello"])
        ]


def test_requests_on_one_connection_are_answered_in_order(server: Server) -> None:
    chunked = b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    sent = b"".join(GET % b"%d" % number for number in range(50)) + chunked + GET % b"last"
    wanted = [b"/%d " % number for number in range(50)] + [b"/c hi", b"/last "]
    for size in (len(sent), 1000, 37):
        pieces = [sent[start : start + size] for start in range(0, len(sent), size)]
        assert bodies(server.ask(*pieces)) == wanted


@pytest.mark.parametrize(
    ("sent", "first", "rest"),
    [
        (GET % b"stream", b"HTTP/1.1 200 OK", b"5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\n"),
        ((GET % b"stream").replace(b"1.1", b"1.0"), b"HTTP/1.0 200 OK", b"firstsecond"),
        ((GET % b"stream").replace(b"GET", b"HEAD"), b"HTTP/1.1 200 OK", b""),
        ((GET % b"x").replace(b"GET", b"HEAD"), b"HTTP/1.1 200 OK", b""),
        (GET % b"empty", b"HTTP/1.1 204 NO CONTENT", b""),
        (GET % b"breaks", b"HTTP/1.1 200 OK", b"5\r\nfirst\r\n"),
    ],
)
def test_answers_end_as_they_should_and_are_closed(sent: bytes, first: bytes, rest: bytes, server: Server) -> None:
    head, _, body = server.ask(sent).partition(b"\r\n\r\n")
    assert (head.partition(b"\r\n")[0], body, server.closed) == (first, rest, 1)


def test_an_app_that_fails_is_answered_for(server: Server) -> None:
    answer = server.ask(GET % b"fails" + GET % b"x")
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert answer.endswith(b'"message":"Internal Server Error"}\n')


def test_a_piece_of_an_answer_is_sent_at_once_and_others_are_answered_meanwhile(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(GET % b"waits")
        seen = b""
        while not seen.endswith(b"first\r\n"):
            seen += connection.recv(4096)
        assert bodies(server.ask(GET % b"x")) == [b"/x "]
        connection.sendall(GET % b"y")  # it waits for its turn
        server.go_on.set()
        while not seen.endswith(b"/y "):
            seen += connection.recv(4096)
    assert b"\r\n0\r\n\r\nHTTP/1.1 200 OK" in seen


SMUGGLED = [
    (b"Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
    (b"Content-Length: 5\r\nContent-Length: 5", 400),
    (b"Content-Length: +5", 400),
    (b"Content-Length: 5, 5", 400),
    (b"Content-Length : 5", 400),
    (b"Transfer-Encoding: chunked, chunked", 400),
    (b"Transfer-Encoding: xchunked", 501),
    (b"Transfer-Encoding: identity", 400),
    (b"X: a\r\n b", 400),
    (b"X: a\nY: b", 400),
    (b"X: a\rY: b", 400),
    (b"X: a\x00", 400),
    (b"X(: a", 400),
    (b"X", 400),
    (b"Host: b", 400),
    (b"X: " + b"y" * 8190, 431),
    (b"X: y\r\n" * 100 + b"X: y", 431),
]


@pytest.mark.parametrize(("field", "status"), SMUGGLED, ids=range(len(SMUGGLED)))
def test_what_could_be_read_in_two_ways_is_refused_and_the_connection_ends(
    field: bytes, status: int, server: Server
) -> None:
    answer = server.ask(b"POST /x HTTP/1.1\r\nHost: a\r\n" + field + b"\r\n\r\n0\r\n\r\n" + GET % b"smuggled")
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"smuggled" not in answer
    assert answer.count(b"HTTP/1.1 ") == 1


def ends_after(connection: socket.socket, most: float) -> float:
    began = time.monotonic()
    connection.settimeout(most)
    while connection.recv(65536):
        pass
    return time.monotonic() - began


class TestLimits:
    @pytest.fixture(autouse=True)
    def _short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(patience, "REQUEST_SECONDS", 1.0)
        monkeypatch.setattr(connections, "_ANSWER_SECONDS", 0.5)
        monkeypatch.setattr(patience, "_LINGER_SECONDS", 0.5)

    def test_who_sends_nothing_is_sent_nothing(self, server: Server) -> None:
        with server.connect() as connection:
            assert connection.recv(1) == b""

    @pytest.mark.parametrize("begun", [b"G", HEAD, HEAD + b"\r\nhell"])
    def test_who_is_too_slow_is_told(self, begun: bytes, server: Server) -> None:
        with server.connect() as connection:
            connection.sendall(GET % b"x" + begun)
            answers = b"".join(iter(lambda: connection.recv(4096), b""))
        assert b"/x HTTP/1.1 408 Request Timeout\r\n" in answers

    def test_who_takes_nothing_is_left_and_holds_up_nobody(self, server: Server) -> None:
        with server.connect() as connection:
            connection.sendall(GET % b"huge")
            assert bodies(server.ask(GET % b"x")) == [b"/x "]
            wait_until(lambda: server.closed == 2, "the answer is given up")
            wait_until(lambda: not server.worker._connections, "its connection is closed")

    def test_who_vanishes_ends_its_stream(self, server: Server) -> None:
        with server.connect() as connection:
            connection.sendall(GET % b"huge")
            connection.recv(1)
        wait_until(lambda: server.closed == 1, "the answer has ended")

    def test_an_idle_connection_ends_after_a_while(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(CONFIG.settings, "keepalive", SimpleNamespace(get=lambda: 1))
        with server.connect() as connection:
            connection.sendall(GET % b"x")
            assert ends_after(connection, 4) < 3

    def test_there_are_so_many_connections_and_no_more(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(CONFIG.settings, "worker_connections", SimpleNamespace(get=lambda: 10))
        monkeypatch.setattr(patience, "REQUEST_SECONDS", 3.0)
        held = [server.connect() for _ in range(10)]
        wait_until(lambda: len(server.worker._connections) == 10, "all are in")
        with server.connect() as late:
            late.sendall(GET % b"x")
            late.settimeout(1.2)
            with pytest.raises(TimeoutError):
                late.recv(1)
            for connection in held:
                connection.close()
            late.settimeout(5)
            assert late.recv(4096).startswith(b"HTTP/1.1 200 OK")

    def test_when_it_is_to_end_it_finishes_what_it_has_begun(self, server: Server) -> None:
        with server.connect() as idle, server.connect() as working:
            idle.sendall(GET % b"x")
            idle.recv(4096)
            working.sendall(GET % b"waits")
            working.recv(4096)
            stopping = threading.Thread(target=server.stop)
            stopping.start()
            assert ends_after(idle, 4) < 3
            server.go_on.set()
            assert b"".join(iter(lambda: working.recv(4096), b"")).endswith(b"second\r\n0\r\n\r\n")
            stopping.join(5)
            assert not stopping.is_alive()
