"""JSON that means one thing: what readers would understand differently, or stumble over, is refused."""

import re
from typing import Any, Final

import orjson

MOST_LEVELS: Final = 64
"""Deeper nesting is refused; orjson reads 1024 levels, but writes 254 only."""

_LOOKED_INTO_BYTES: Final = 1024 * 1024
"""Larger documents are not searched for keys that come twice: that would hold up other requests."""

_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_KEY: Final = re.compile(rb'"\s*:')


def loads(body: bytes) -> Any:
    """The document.

    Raises:
        ValueError: it is not JSON in UTF-8, is nested too deeply, or has a key twice in one object. Says what and, for
            what is no JSON, where.
    """
    document = orjson.loads(body)
    keys = _count_keys(document)
    if len(body) <= _LOOKED_INTO_BYTES:
        bare = _STRING.sub(b'"', body)
        if len(_KEY.findall(bare)) != keys:
            raise ValueError("an object has the same key twice")
    return document


def _count_keys(document: Any) -> int:
    """Of all objects in it."""
    keys, level = 0, [document] if isinstance(document, (dict, list)) else []
    for _ in range(MOST_LEVELS):
        keys += sum(len(found) for found in level if isinstance(found, dict))
        level = [
            child
            for found in level
            for child in (found.values() if isinstance(found, dict) else found)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return keys
    raise ValueError(f"it is nested deeper than {MOST_LEVELS} levels")
