"""The README and the pages in docs/: their blocks, and whether what a command said is what its page shows.

- A `sh` block holds commands, as they are typed in the checkout. One that names something of `ELSEWHERE` is not run.
- A `json` or `text` block that follows one in the same section shows what its commands say. `...` stands for anything,
  and digits for other digits.
- A block with a name behind its language is a file of this name.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from tests.support.instance import ROOT

PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

ELSEWHERE: Final = {
    r"make run|(?:[A-Z_]+=\S+ )+make run": "starts the instance; it runs already",
    r"make (?:test|gauntlet|fuzz|bench|lint|format|requirements|translations|reference)": "takes minutes, or is the suite",
    r"(?:[A-Z_]+=\S+ )*(?:make restore|pressroom restore|python -m jobs\.backup restore)": "needs an empty database",
    r"mv data/": "takes the data of the instance away",
    r"(?:[A-Z_]+=\S+ )*python -m jobs\.(?:store\.migrate|worker|keys)": "as where it is deployed; make has its like here",
    r"(?:docker|kubectl|heroku|git|systemctl|useradd|install|chown|apt-get|cp deploy/|nginx)\b": "needs what is not here",
    r"rq (?:suspend|resume)": "needs the URL of Redis",
    r"ln -s|eval|cd /|sudo|grep -h": "changes the reader's shell or machine, or reads what is there",
    r"while true": "goes on overnight",
}
"""The beginnings of lines that are not run in tests, and why; they are looked at by tests/unit/test_guides.py."""

_FENCE: Final = re.compile(r"^```(\w*)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\.\.\.|[\[\]{}:]|[^"\[\]{}:.]+|\.')


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is where its text begins, `shown` is what its commands are to say."""

    line: int
    language: str
    file: str | None
    text: str
    shown: str | None = None
    shows_json: bool = False

    @property
    def reason(self) -> str | None:
        """Why it is not run."""
        found = (
            why for line in self.text.splitlines() for start, why in ELSEWHERE.items() if re.match(start, line.strip())
        )
        return next(found, None)


def blocks(page: Path) -> list[Block]:
    """All of a page, in order."""
    text = page.read_text()
    found: list[Block] = []
    matches = list(_FENCE.finditer(text))
    for number, match in enumerate(matches):
        language, file, body = match.groups()
        shown, shows_json = None, False
        if language == "sh" and number + 1 < len(matches):
            following = matches[number + 1]
            is_near = "\n#" not in text[match.end() : following.start()]
            if following[1] in ("json", "text") and not following[2] and is_near:
                shown, shows_json = following[3], following[1] == "json"
        found.append(Block(text.count("\n", 0, match.start(3)) + 1, language, file, body, shown, shows_json))
    return found


def fits(block: Block, said: str) -> bool:
    """Whether a block's commands said what its page shows."""
    shown = block.shown or ""
    if block.shows_json:
        return bool(said) and _fits(orjson.loads(_closed(shown)), orjson.loads(said))
    lines = (r"(?:.*\n)*?" if line.strip() == "..." else _pattern(line) + " *\n" for line in shown.splitlines())
    return bool(re.fullmatch("".join(lines), said if said.endswith("\n") else said + "\n"))


def _pattern(text: str) -> str:
    """What a line or a value may look like."""
    wild = {"...": ".*", "  ": " +", "0": r"\d+"}
    parts = re.split(r"(\.\.\.| {2,}|\d+)", text)
    for number in range(1, len(parts), 2):
        found = parts[number]
        parts[number] = "0" if found.isdigit() else "  " if found.isspace() else found
    return "".join(wild[part] if number % 2 else re.escape(part) for number, part in enumerate(parts))


def _closed(shown: str) -> str:
    """JSON in which `...` stands for members, elements or values, as JSON that has `"..."` in their place."""
    made, around, before = [], [], ""
    for token in _TOKEN.findall(shown):
        if token in "[{":
            around.append(token)
        elif token in "]}":
            around.pop()
        is_member = token == "..." and around[-1:] == ["{"] and before != ":"
        made.append('"...": null' if is_member else '"..."' if token == "..." else token)
        before = token if token.strip() else before
    return "".join(made)


def _fits(shown: Any, said: Any) -> bool:
    if shown == "...":
        return True
    if isinstance(shown, dict) and isinstance(said, dict):
        named = {name: value for name, value in shown.items() if name != "..."}
        is_whole = "..." not in shown
        return (not is_whole or named.keys() == said.keys()) and all(
            name in said and _fits(value, said[name]) for name, value in named.items()
        )
    if isinstance(shown, list) and isinstance(said, list):
        if shown[-1:] == ["..."]:
            shown, said = shown[:-1], said[: len(shown) - 1]
        return len(shown) == len(said) and all(map(_fits, shown, said))
    if isinstance(shown, str) and isinstance(said, str):
        return bool(re.fullmatch(_pattern(shown), said, re.DOTALL))
    if isinstance(shown, float):
        return isinstance(said, float | int)
    return bool(shown == said and type(shown) is type(said))


def commands(text: str) -> Iterator[str]:
    """The commands of a `sh` block, each on one line, without comments."""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        command = re.sub(r"(^|\s)#.*$", "", line).strip()
        if command:
            yield command
