"""What gunicorn refuses by itself looks like every other error."""

import http.client
import json
import socket

from deploy import refusals


def test_it_is_json_with_an_id() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        refusals.write_error(ours, 414, "URI Too Long", "Request Line is too large (\u4e00 > 8190)")
        answer = http.client.HTTPResponse(theirs)
        answer.begin()
        assert (answer.status, answer.headers["Content-Type"]) == (414, "application/json")
        assert answer.headers["X-Request-ID"]
        assert json.loads(answer.read()) == {
            "code": 414,
            "status": "URI Too Long",
            "message": "Request Line is too large (\u4e00 > 8190)",
        }
