"""Odd bodies are refused by a 4xx that says why, never by a 500."""

import gzip

import orjson
import pytest
from flask.testing import FlaskClient

JSON = {"Content-Type": "application/json"}
TASK = {"prompt": "p", "model": "m"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"prompt": "p", "model": "m", "metadata": ' + b'{"a":' * 70 + b"1" + b"}" * 71, 400),
        (b"[" * 50_000, 400),
        (b'{"prompt": "p", "prompt": "q", "model": "m"}', 400),
        (b'{"prompt": "p", "model": "m", "priority": 100000000000000000000000000}', 422),
        (b'{"prompt": "p", "model": "m", "priority": 1e300}', 422),
        (b'{"prompt": "p", "model": "m", "timeout_seconds": 9223372036854775808}', 422),
        (b'{"prompt": "p", "model": "m", "delay_seconds": 1e308}', 422),
        (b'{"prompt": "p", "model": "m", "depends_on": [9223372036854775808]}', 422),
        (b'{"prompt": "p", "model": "m", "metadata": {"a": NaN}}', 400),
        (b'{"prompt": "\\ud800", "model": "m"}', 400),
        (b'{"prompt": "\xff", "model": "m"}', 400),
        (b'{"prompt": "\\u0000", "model": "m"}', 422),
        (b'{"prompt": "p", "model": "m", "metadata": {"\\u0000": 1}}', 422),
        (b'{"prompt": "p", "model": "m", "metadata": {"a": ["\\u0000"]}}', 422),
        (b'{"prompt": "p", "model": "m\\u0000"}', 422),
        (orjson.dumps({**TASK, **{f"unknown{number}": 1 for number in range(20_000)}}), 422),
        (b"null", 422),
        (b"[]", 422),
        (b'"text"', 422),
        (b"", 422),
    ],
    ids=range(20),
)  # fmt: skip
def test_a_body_that_does_not_fit(body: bytes, status: int, client: FlaskClient) -> None:
    answer = client.post("/api/v1/tasks", data=body, headers=JSON)
    assert answer.status_code == status, answer.get_data(as_text=True)[:500]
    assert answer.get_json()["message"]


def test_many_keys_are_kept_or_refused(client: FlaskClient) -> None:
    body = {**TASK, "metadata": {f"key{number}": number for number in range(20_000)}}
    answer = client.post("/api/v1/tasks", json=body)
    assert answer.status_code in (201, 422)


def test_packed_bodies_are_not_unpacked(client: FlaskClient) -> None:
    packed = gzip.compress(orjson.dumps(TASK))
    answer = client.post("/api/v1/tasks", data=packed, headers={**JSON, "Content-Encoding": "gzip"})
    assert answer.status_code == 415
