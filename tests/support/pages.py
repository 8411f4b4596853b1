"""The README and the pages in docs/: their blocks, and whether what a command said is what its page shows.

- A `sh` block holds commands, as they are typed in the checkout. It is run, unless a line of it is in `ELSEWHERE`.
- A `json` or `text` block that follows one in the same section shows what its commands say. `...` stands for anything,
  and digits for other digits.
- A block with a name behind its language is a file of this name.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from tests.support.instance import ROOT

PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

ELSEWHERE: Final = {
    "make run": "starts the instance, which runs already",
    "make restore": "wants an empty database",
    "mv data/": "takes the data of the instance away",
    "make test": "this is it",
    "make (gauntlet|fuzz|bench|lint)": "takes minutes",
    "make (format|requirements|translations|reference)": "changes the checkout",
    "python -m jobs.store.migrate": "wants the URL of a database",
    "(heroku|git|docker|kubectl|systemctl|systemd-run|useradd|cp) ": "wants a platform, or root",
    "ln -s": "changes the home of who reads it",
    'eval "\\$\\(pressroom completion zsh': "wants zsh",
    "grep -h": "looks for a request of long ago",
}
"""How lines begin that are not run in tests, behind their variables, and why. tests/unit/test_guides.py reads them."""

BEGINNING: Final = r"^(?:[A-Z_]+=\S+ )*(?:{})"
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
        found = (why for start, why in ELSEWHERE.items() if re.search(BEGINNING.format(start), self.text, re.MULTILINE))
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


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a `sh` block, each as its words: what is behind a pipe or a redirection is none of them."""
    waiting = ""
    for line in text.replace("\\\n", " ").splitlines():
        waiting += line + "\n"
        try:
            words = shlex.split(waiting, comments=True)
        except ValueError:  # a quotation goes on
            continue
        waiting = ""
        ends = [number for number, word in enumerate(words) if word in (">", "|", "||", "&&", ";")]
        if words:
            yield words[: min(ends, default=None)]
    assert not waiting, text
