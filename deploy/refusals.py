"""What gunicorn refuses before the app sees it (a URL too long, a head that is no HTTP), as JSON like all errors."""

import socket
from contextlib import suppress
from uuid import uuid4

import orjson
import structlog

log = structlog.get_logger(__name__)


def write_error(connection: socket.socket, status: int, reason: str, message: str) -> None:
    """In the place of `gunicorn.util.write_error`, which answers with a page."""
    request_id = uuid4().hex
    log.info("request refused", status=status, reason=message or reason, request_id=request_id)
    body = orjson.dumps({"code": status, "status": reason, "message": message or reason}) + b"\n"
    head = (
        f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"X-Request-ID: {request_id}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with suppress(OSError):
        connection.send(head.encode("latin-1") + body)
