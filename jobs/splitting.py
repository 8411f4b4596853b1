"""Long texts in parts that a model takes at once. Pure."""

import re
from collections.abc import Sequence
from typing import Final

PART_CHARS: Final = 24_000
"""Characters that fit into a call of nearly any model of today, with the instructions and the answer."""

# Where a text may be cut, best first: between paragraphs, lines, sentences, words.
_BORDERS: Final = tuple(map(re.compile, (r"\n\s*\n", r"\n", r"(?<=[.!?;])\s+|(?<=[。！？；])", r"\s+")))


def split(text: str, size: int) -> list[str]:
    """A text in parts of at most `size` characters, cut at the best border in the second half of each."""
    parts = []
    text = text.strip()
    while len(text) > size:
        at = _cut(text, size)
        parts.append(text[:at].rstrip())
        text = text[at:].lstrip()
    return [*parts, text]


def _cut(text: str, size: int) -> int:
    for border in _BORDERS:
        # A border itself is dropped, so it may begin where the part is full.
        starts = [found.start() for found in border.finditer(text, size // 2, size + 2) if found.start() <= size]
        if starts:
            return starts[-1]
    return size


def groups(texts: Sequence[str], size: int) -> list[list[str]]:
    """Texts in order, as many together as have at most `size` characters, but at least two (the last may be alone)."""
    made: list[list[str]] = []
    for text in texts:
        if made and (len(made[-1]) < 2 or sum(map(len, made[-1])) + len(text) <= size):
            made[-1].append(text)
        else:
            made.append([text])
    return made
