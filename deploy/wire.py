"""HTTP/1.1 as nearly everybody sends it, read and answered at little cost.

Of gunicorn's parser, most of the time goes into what hardly ever comes. `usual` reads only requests whose head is of a
form about which no two parsers differ; about all others it says nothing, and gunicorn decides.
"""

import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from gunicorn import util
from gunicorn.http.wsgi import Response

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_HEAD: Final = re.compile(
    # A path that begins with two slashes, or "#", would have to be taken apart with more care.
    rb"([A-Z]{3,20}) (/(?!/)[!\"$-~]*) HTTP/1\.1\r\n"
    # "_" in a name could be mistaken for "-".
    rb"((?:[!#$%&'*+.^`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*\r\n)*)\r\n"
)
_LONGEST: Final = 8000  # less than each of gunicorn's limits for lines,
_MOST_FIELDS: Final = 100  # and just that for fields
_COPIED_BYTES: Final = 256 * 1024  # at most, to send the head along with them
_LENGTH: Final = re.compile(r"[0-9]{1,9}")
_SINGULAR: Final = {"CONTENT_TYPE", "CONTENT_LENGTH"}
_UNUSUAL: Final = {"HTTP_TRANSFER_ENCODING", "HTTP_EXPECT"}


class Usual(NamedTuple):
    """A request; of gunicorn's own class it has what an answer asks for."""

    environ: "WSGIEnvironment"
    end: int  # of the head,
    length: int  # and of the body
    method: str
    uri: str
    query: str
    closes: bool
    version: tuple[int, int] = (1, 1)
    body: None = None

    def should_close(self) -> bool:
        """Whether it is the connection's last."""
        return self.closes


def usual(seen: bytes) -> Usual | None:
    """The request that begins with these bytes, when its head is all there and there is nothing special about it."""
    if not (head := _HEAD.match(seen)) or head.end() > _LONGEST:
        return None
    method, target, fields = head[1].decode(), head[2].decode(), head[3].decode("latin-1").split("\r\n")
    path, _, query = target.partition("?")
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": method,
        "QUERY_STRING": query,
        "RAW_URI": target,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1") if "%" in path else path,
    }
    fields.pop()
    if len(fields) > _MOST_FIELDS:
        return None
    for field in fields:
        name, _, value = field.partition(":")
        key = _key(name)
        if key in environ or key in _UNUSUAL:
            return None
        environ[key] = value.strip(" \t")
    length = environ.get("CONTENT_LENGTH", "0")
    if method == "CONNECT" or not _LENGTH.fullmatch(length):
        return None
    closes = environ.get("HTTP_CONNECTION", "").lower() == "close"
    return Usual(environ, head.end(), int(length), method, target, query, closes)


@lru_cache(1024)
def _key(name: str) -> str:
    key = name.upper().replace("-", "_")
    return key if key in _SINGULAR else f"HTTP_{key}"


class Answer(Response):
    """gunicorn's, which sends the head along with what comes first."""

    headers_sent: bool
    _unsent = b""

    @property
    def has_begun(self) -> bool:
        """Whether something of it was sent, so that no other can take its place."""
        return bool(self.headers_sent and not self._unsent)

    def send_headers(self) -> None:
        """With the next piece."""
        if not self.headers_sent:
            self.headers_sent = True
            head = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers), "\r\n"]
            self._unsent = "".join(head).encode("latin-1")

    def _emit_body(self, data: bytes) -> None:
        self._send(b"%X\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def _send(self, data: bytes) -> None:
        head, self._unsent = self._unsent, b""
        if len(data) <= _COPIED_BYTES:
            self.sock.sendall(head + data)
        else:
            if head:
                self.sock.sendall(head)
            self.sock.sendall(data)

    def close(self) -> None:
        """The end of it, and all of it when it had no body."""
        self.send_headers()
        if self._unsent or self.chunked:
            self._send(b"0\r\n\r\n" if self.chunked else b"")

    def default_headers(self) -> list[str]:
        """As gunicorn's, but the date is written once a second."""
        version = ".".join(map(str, self.req.version))
        return [
            f"HTTP/{version} {self.status}\r\nServer: {self.version}\r\nDate: {_date(int(time.time()))}\r\n",
            f"Connection: {'close' if self.should_close() else 'keep-alive'}\r\n",
            "Transfer-Encoding: chunked\r\n" if self.chunked else "",
        ]


@lru_cache(1)
def _date(second: int) -> str:
    return str(util.http_date(second))
