"""SQL lives in `sql/*.sql`; each statement stands under a line `-- name: its_name`."""

import re
from pathlib import Path
from typing import LiteralString, cast

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load(directory: Path) -> dict[str, LiteralString]:
    """All named statements below `directory`.

    Raises:
        ValueError: two statements share a name.
    """
    found: dict[str, LiteralString] = {}
    for path in sorted(directory.glob("*.sql")):
        parts = _NAME.split(path.read_text(encoding="utf-8"))
        for name, statement in zip(parts[1::2], parts[2::2], strict=True):
            if name in found:
                raise ValueError(f"{path.name}: {name} is defined twice")
            # Files that ship with the code are as trusted as literals in it.
            found[name] = cast(LiteralString, statement.strip())
    return found


QUERIES = load(Path(__file__).parent / "sql")
