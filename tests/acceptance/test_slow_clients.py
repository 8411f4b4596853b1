"""Clients that send slowly, or what they did not announce, hold up nobody."""

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse

import pytest

from deploy.patience import REQUEST_SECONDS
from tests.support.instance import Instance, fresh_directory, running

HEAD = b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
TASK = b'{"prompt": "p", "model": "m"}'
LARGE = b'{"prompt": "p", "model": "m", "metadata": {"a": "' + b"x" * 200_000 + b'"}}'
SLOW = {
    "head": b"",
    "body": b"Content-Length: 5000\r\n\r\n",
    "large body": b"Content-Length: 500000\r\n\r\n",
    "chunks": b"Transfer-Encoding: chunked\r\n\r\n100\r\n",
}
SLOW_CLIENTS = {"head": 75, "body": 75, "large body": 25, "chunks": 25}


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    with fresh_directory() as directory, running(directory) as started:
        yield started


def connect(instance: Instance) -> socket.socket:
    return socket.create_connection(("127.0.0.1", instance.port), timeout=30)


def ask(instance: Instance, *pieces: bytes) -> bytes:
    """What is answered to these pieces, sent one after another; the connection's end is ours."""
    with connect(instance) as connection:
        for piece in pieces:
            connection.sendall(piece)
        return connection.recv(65536)


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


def length(number: int) -> bytes:
    return b"Content-Length: %d\r\n\r\n" % number


@pytest.mark.parametrize("header", [b"X-Forwarded-Proto: https", b"SCRIPT_NAME: //evil.example", b"SCRIPT_NAME: /x"])
def test_nobody_is_believed_to_be_a_proxy_by_calling_from_this_machine(header: bytes, instance: Instance) -> None:
    head = b"GET //evil.example/docs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    plain, forged = ask(instance, head + b"\r\n"), ask(instance, head + header + b"\r\n\r\n")
    assert plain.split(b"\r\n")[0] == forged.split(b"\r\n")[0]
    assert b"Strict-Transport-Security" not in forged


def test_slow_clients_end_by_themselves_and_hold_up_nobody(instance: Instance) -> None:
    stop = threading.Event()

    def drip(kind: str) -> bytes:
        with connect(instance) as connection:
            connection.sendall(HEAD + SLOW[kind])
            answer = b""
            try:
                while not stop.is_set() and not answer:
                    connection.sendall(b"x")
                    connection.settimeout(1)
                    try:
                        answer = connection.recv(4096)
                    except TimeoutError:
                        continue
            except ConnectionError:
                return b"closed"
            return answer

    with ThreadPoolExecutor(200) as pool:
        ends = [pool.submit(drip, kind) for kind, count in SLOW_CLIENTS.items() for _ in range(count)]
        try:
            for number in range(5):
                instance.submit(f"prompt {number}", delay_seconds=3600)
                assert b" 201 " in ask(instance, HEAD + length(len(LARGE)) + LARGE)
            assert not any(end.done() for end in ends)
            said = [end.result(REQUEST_SECONDS + 10).partition(b"\r\n")[0] for end in ends]
        finally:
            stop.set()
    # Some bytes of theirs may come after the answer; then the connection may be reset before it is read.
    assert set(said) <= {b"HTTP/1.1 408 Request Timeout", b"closed"}
    assert said.count(b"HTTP/1.1 408 Request Timeout") > 100


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ((HEAD, length(len(TASK)), TASK), 201),
        ((HEAD, length(len(LARGE)), LARGE[:100], LARGE[100:]), 201),
        ((HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunked(TASK[:5]), chunked(TASK[5:]), b"0\r\n\r\n"), 201),
        ((HEAD + b"\r\n" + TASK,), 422),
        ((HEAD + length(10 * 1024 * 1024 + 1),), 413),
        ((HEAD.replace(b"tasks", b"tasks/batch") + length(64 * 1024 * 1024 + 1),), 413),
        ((HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunked(b" " * 1024 * 1024)] * 11), 413),
        ((HEAD + b"Transfer-Encoding: chunked\r\n" + length(5) + b"0\r\n\r\n",), 400),
        ((HEAD + b"Content-Length: 5\r\n" + length(6) + b"[1, 2]",), 400),
        ((HEAD + b"Content-Length: -1\r\n\r\n",), 400),
        ((HEAD + b"X: " + b"y" * 40_000 + b"\r\n\r\n",), 431),
    ],
    ids=range(11),
)
def test_bodies_are_taken_as_announced_and_bounded(
    pieces: tuple[bytes, ...], status: int, instance: Instance
) -> None:  # fmt: skip
    answer = ask(instance, *pieces)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:500]


def test_a_body_shorter_than_announced_is_no_task(instance: Instance) -> None:
    for body in (TASK, LARGE):
        with connect(instance) as connection:
            connection.sendall(HEAD + length(len(body)) + body[:-1])
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(4096).partition(b"\r\n")[0] in (b"", b"HTTP/1.1 400 BAD REQUEST")


def test_what_is_expected_to_be_asked_for_is_asked_for(instance: Instance) -> None:
    with connect(instance) as connection:
        connection.sendall(HEAD + b"Expect: 100-continue\r\n" + length(len(TASK)))
        assert connection.recv(4096).startswith(b"HTTP/1.1 100 ")
        connection.sendall(TASK)
        assert connection.recv(65536).startswith(b"HTTP/1.1 201 ")


def test_a_connection_carries_one_request_after_another(instance: Instance) -> None:
    request = HEAD + length(len(TASK)) + TASK
    with connect(instance) as connection:
        for piece in (request + request[:50], request[50:]):
            connection.sendall(piece)
            answer = HTTPResponse(connection)
            answer.begin()
            assert (answer.status, answer.read()[:6]) == (201, b'{"id":')


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", 400),
        (b"G\x00T / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    ],
    ids=["url", "header", "version", "method"],
)
def test_what_is_no_request_is_refused_as_json(instance: Instance, head: bytes, status: int) -> None:
    answer = ask(instance, head)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == status
