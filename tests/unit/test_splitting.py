"""Long texts are cut where it hurts least."""

import pytest

from jobs.splitting import groups, split


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("short", ["short"]),
        ("  edges  ", ["edges"]),
        ("aaaa aaa.\n\nbbbb bbb", ["aaaa aaa.", "bbbb bbb"]),
        ("aaaa aaa\nbbbb\nbbbb", ["aaaa aaa", "bbbb\nbbbb"]),
        ("Aaaa aa. Bbbb bb", ["Aaaa aa.", "Bbbb bb"]),
        ("一二三四五六。七八九十。一", ["一二三四五六。", "七八九十。一"]),
        ("aaaaaaa bbbbbbb", ["aaaaaaa", "bbbbbbb"]),
        ("abcdefghijklmno", ["abcdefghij", "klmno"]),
    ],
)
def test_the_best_border_is_taken(text: str, parts: list[str]) -> None:
    assert split(text, 10) == parts


def test_nothing_is_lost_and_no_part_is_too_long() -> None:
    text = "\n\n".join(f"paragraph {number} " + "word " * (number % 40) for number in range(300))
    parts = split(text, 500)
    assert max(map(len, parts)) <= 500
    assert " ".join(parts).split() == text.split()
    assert all(part.startswith("paragraph") for part in parts)


def test_texts_are_grouped_as_they_fit_but_never_alone() -> None:
    assert groups(["aaa", "bbb", "ccc", "ddd"], 9) == [["aaa", "bbb", "ccc"], ["ddd"]]
    assert groups(["a" * 50, "b" * 50, "c" * 50], 9) == [["a" * 50, "b" * 50], ["c" * 50]]
    assert groups([], 9) == []
