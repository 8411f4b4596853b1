"""What commands print: tables and texts for people, JSON for scripts."""

import shutil
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import click
import orjson

_CUT: Final = "…"
_PROMPT_COLUMNS: Final = 100
_MOST_ERRORS: Final = 10


def as_json(document: Any) -> None:
    """A document on one line, readable in any script."""
    click.echo(orjson.dumps(document).decode())


def as_json_list(items: Iterable[Any]) -> None:
    """A list, an item on each line, written as they come."""
    before = "["
    for item in items:
        click.echo(before + orjson.dumps(item).decode(), nl=False)
        before = ",\n "
    click.echo("[]" if before == "[" else "]")


def text(said: str, *, nl: bool = True) -> None:
    """A text; on a terminal without the control characters that could change what it shows."""
    click.echo(printable(said) if sys.stdout.isatty() else said, nl=nl)


def printable(said: str) -> str:
    """With a mark in place of each control character but line ends and tabs."""
    return "".join("�" if unicodedata.category(char) == "Cc" and char not in "\n\t" else char for char in said)


def width(said: str) -> int:
    """Columns on a terminal: Chinese characters take two."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in said
    )


def cut(said: str, columns: int) -> str:
    """On one line, and no wider than that."""
    line = printable(" ".join(said.split()))
    if width(line) <= columns:
        return line
    while line and width(line) > columns - 1:
        line = line[: -max(1, (width(line) - columns) // 2)]
    return line + _CUT


def table(titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Columns under titles; the last one may be as long as it likes, but on a terminal has only what room is left."""
    lines = [list(titles), *(["-" if cell is None else printable(str(cell)) for cell in row] for row in rows)]
    widths = [max(width(line[column]) for line in lines) for column in range(len(titles) - 1)]
    left = max(20, shutil.get_terminal_size().columns - sum(widths) - 2 * len(widths))
    for line in lines:
        cells = [cell + " " * (wide - width(cell)) for cell, wide in zip(line, widths, strict=False)]
        last = cut(line[-1], left) if sys.stdout.isatty() else " ".join(line[-1].split())
        click.echo("  ".join([*cells, last]).rstrip())


def facts(pairs: Iterable[tuple[str, Any]]) -> None:
    """Names and values, a pair on each line; those without a value are left out."""
    known = [(name, str(value)) for name, value in pairs if value is not None]
    wide = max(width(name) for name, _ in known)
    for name, value in known:
        text(f"{name}{' ' * (wide - width(name))}  {value}")


def moment(stamp: str | None) -> str | None:
    """A time of the API in local time, to the second."""
    return datetime.fromisoformat(stamp).astimezone().strftime("%Y-%m-%d %H:%M:%S") if stamp else None


def span(seconds: float | None) -> str | None:
    """A number of seconds, as people say it."""
    if seconds is None:
        return None
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def task(found: dict[str, Any]) -> None:
    """A task, for people."""
    usage = found["usage"] or {}
    facts([
        ("task", found["id"]),
        ("status", found["status"] + (" (to be cancelled)" if found["cancel_requested"] else "")),
        ("type", found["task_type"]),
        ("model", found["model"]),
        ("priority", f"{found['priority']} ({found['queue']})"),
        ("created", moment(found["created_at"])),
        ("started", moment(found["started_at"])),
        ("ended", moment(found["completed_at"])),
        ("took", span(found["run_seconds"])),
        ("attempts", f"{found['attempt']} of {found['max_retries'] + 1} at most"),
        ("tokens", usage.get("total_tokens")),
        ("batch", found["batch_id"]),
        ("prompt", cut(found["prompt"], _PROMPT_COLUMNS) if found["prompt"] else None),
        ("error", error(found["error"]) if found["error"] else None),
    ])  # fmt: skip
    result = found["result"]
    if isinstance(result, dict):
        click.echo()
        text(str(result["text"]) if "text" in result else orjson.dumps(result, option=orjson.OPT_INDENT_2).decode())


def batch(found: dict[str, Any]) -> None:
    """A batch, for people."""
    counts = ", ".join(f"{count:,} {status}" for status, count in found["counts"].items())
    facts([
        ("batch", found["id"]), ("status", found["status"]), ("done", f"{found['progress']}% of {found['total']:,}"),
        ("tasks", counts or None), ("created", moment(found["created_at"])), ("ended", moment(found["completed_at"])),
    ])  # fmt: skip
    for wrong in found["errors"][:_MOST_ERRORS]:
        text(f"  task {wrong['task_id']}: {error(wrong['error'])}")
    if len(found["errors"]) > _MOST_ERRORS:
        text(f"  and more: pressroom list --batch {found['id']} --status FAILED")


def error(found: dict[str, Any]) -> str:
    """Why a task failed."""
    return f"{found['code']}: {found['message']}"


def outcome(found: dict[str, Any]) -> str:
    """How a task ended, in a line."""
    tokens = (found["usage"] or {}).get("total_tokens")
    parts = [f"task {found['id']} {found['status']}"]
    parts += [f"in {span(found['run_seconds'])}"] if found["run_seconds"] is not None else []
    parts += [f"{tokens:,} tokens"] if tokens else []
    return ", ".join(parts) + (f": {error(found['error'])}" if found["error"] else "")
