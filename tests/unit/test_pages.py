"""What a page shows, and what its commands said."""

import pytest

from tests.support.pages import Block, fits

TASK = '{"id":1,"status":"COMPLETED","result":{"text":"[offline] Hi","n":2.5},"tags":["a","b"],"error":null}'


@pytest.mark.parametrize(
    ("shown", "is_so"),
    [
        ('{"id": 1, ...}', True),
        ('{"id": 1, ..., "status": "COMPLETED", ...}', True),
        ('{"id": ..., "status": "...", "result": {...}, "tags": [...], "error": null}', True),
        ('{"result": {"text": "[offline] ...", "n": 0.1}, ...}', True),
        ('{"tags": ["a", ...], ...}', True),
        ('{"id": 2, ...}', False),
        ('{"id": 1}', False),
        ('{"status": "FAILED", ...}', False),
        ('{"nothing": ..., ...}', False),
        ('{"result": {"text": "..."}, ...}', False),
        ('{"tags": ["b", ...], ...}', False),
        ('{"tags": ["a"], ...}', False),
        ('{"error": false, ...}', False),
    ],
)
def test_json_is_compared_without_what_is_left_out(shown: str, is_so: bool) -> None:
    assert fits(Block(1, "sh", None, "", shown, shows_json=True), TASK) == is_so


@pytest.mark.parametrize(
    ("shown", "said", "is_so"),
    [
        ("task 4 PENDING (default)\n", "task 17 PENDING (default)\n", True),
        ("task 4 PENDING (default)\n", "task 17 FAILED (default)\n", False),
        ("[offline] ... prime\n", "[offline] No model was called. Name a prime\n", True),
        ("...\nevent: end\n", "id: 1\ndata: x\n\nevent: end\n", True),
        ("...\nevent: end\n", "event: end\nmore\n", False),
        ("A   B\n", "A  B\n", True),
    ],
)
def test_text_is_compared_line_by_line(shown: str, said: str, is_so: bool) -> None:
    assert fits(Block(1, "sh", None, "", shown), said) == is_so
