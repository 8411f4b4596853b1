"""What goes out of an answer's headers is what werkzeug would make of them."""

from http import HTTPStatus

import pytest
from flask import Response
from werkzeug.test import create_environ

from api.app import Reply

LOCATIONS = ("/api/v1/tasks/1", "/", "//elsewhere.example/a", "/ä b", "https://bücher.example/", "/a?b=ü#c", "/%C3%A4")
HEADERS = (
    {},
    {"Content-Location": "/ä"},
    {"ETag": '"a"', "Last-Modified": "Sat, 28 Nov 2026 00:00:00 GMT", "Content-Language": "zh"},
    *({"Location": location} for location in LOCATIONS),
)


@pytest.mark.parametrize("status", [*HTTPStatus], ids=str)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_as_werkzeug_would_have_it(status: HTTPStatus, method: str) -> None:
    environ = create_environ("/", method=method)
    for body in (b"{}", [b"{", b"}"], iter([b"{}"]), None):
        for headers in HEADERS:
            ours, theirs = (
                kind(body, status, headers, content_type="application/json").get_wsgi_response(environ)
                for kind in (Reply, Response)
            )
            assert ours[1:] == theirs[1:], (body, headers)
