"""Bodies that readers would understand differently are refused, whatever their size, and quickly."""

import orjson
import pytest

from api.strict_json import MOST_LEVELS, loads

DEEP = 100_000


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[" * (MOST_LEVELS + 1) + b"]" * (MOST_LEVELS + 1), "nested deeper"),
        (b'{"a":' * (MOST_LEVELS + 1) + b"1" + b"}" * (MOST_LEVELS + 1), "nested deeper"),
        (b"[" * DEEP + b"]" * DEEP, "depth limit"),
        (b"[" * DEEP, "line 1"),
        (b'{"a": 1, "b": {"c": 1, "c" : 2}}', "same key twice"),
        (b'{"a": 1, "\\u0061": 2}', "same key twice"),
        (b"[" + b"9" * DEEP + b"]", "infinity"),
        (b"[1e999]", "infinity"),
        (b"[NaN]", "unexpected"),
        (b"[-Infinity]", "line 1"),
        (b'["\\ud800"]', "surrogate"),
        (b'["\xff"]', "UTF-8"),
        (b'["\xed\xa0\x80"]', "UTF-8"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'["\x00"]', "control character"),
        (b"\x00", "line 1"),
        (b"[1,]", "line 1"),
        (b"{} {}", "line 1"),
    ],
    ids=range(18),
)
def test_it_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        loads(body)


@pytest.mark.parametrize(
    "document",
    [
        None, 1, "text", [], {}, [1.5e300, -0.1, 18446744073709551615 // 10], {"a": [{"a": 1}, {"a": 2}]},
        {"12345678901234567890123": "12345678901234567890123"}, ['{"a": 1, "a": 2}', '\\": [[[', '"', "\\"],
        {'"': 1, "\\": 2, '":': 3, "": 4}, {"é\u2028": "\U0001f600"},
    ],
)  # fmt: skip
def test_all_else_is_read(document: object) -> None:
    assert loads(orjson.dumps(document)) == document
    assert loads(orjson.dumps(document, option=orjson.OPT_INDENT_2)) == document


def test_the_deepest_that_is_read_can_be_written() -> None:
    body = b"[" * MOST_LEVELS + b"]" * MOST_LEVELS
    assert orjson.dumps({"metadata": {"in": loads(body)}})
