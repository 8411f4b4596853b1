"""Tasks from JSONL and CSV files, each with its line, checked as far as can be done without the service."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from cli.problems import WRONG, Problem

if TYPE_CHECKING:
    from _csv import Reader as _csv_reader  # noqa: N813

_MOST_SHOWN: Final = 20
_CELL_CHARS: Final = 64 * 1024 * 1024
_DEFAULT_TYPE: Final = "text_generation"
_PART: Final = re.compile(r"(input|metadata)\..+")

_KINDS: Final[dict[str, tuple[type, ...]]] = {
    **dict.fromkeys(("task_type", "prompt", "model", "run_at", "callback_url"), (str,)),
    **dict.fromkeys(("priority", "timeout_seconds", "max_retries"), (int,)),
    **dict.fromkeys(("delay_seconds", "cache_ttl"), (int, float)),
    **dict.fromkeys(("input", "metadata", "retry"), (dict,)),
    "depends_on": (list,),
    "stream": (bool,),
    "profile": (bool,),
}
"""What a task may have, as the API has it; but no unique_key, for which a line could be left without a task."""
_NAMES: Final = {
    str: "a text", int: "an integer", float: "a number", dict: "an object", list: "a list", bool: "true or false",
}  # fmt: skip


class Task(NamedTuple):
    """A task as it is submitted, and the line that it begins on."""

    line: int
    body: dict[str, Any]


class _WrongLine(Exception):
    """What is wrong with a line, as pairs of a field (or nothing) and why."""

    def __init__(self, *wrong: tuple[str, str]) -> None:
        self.wrong = wrong


def read(
    file: IO[bytes], name: str, form: str, defaults: Mapping[str, Any], model: str | None = None
) -> Iterator[Task]:
    """The tasks of a file, in order.

    Args:
        name: of the file, for messages.
        form: `jsonl` or `csv`.
        defaults: fields that each task has unless it has its own.
        model: of tasks with a prompt that name none; other types have one of the service's.

    Raises:
        Problem: some are wrong; it names up to 20, each with line and field.
    """
    wrong: list[str] = []
    for line, make in (_csv if form == "csv" else _jsonl)(file):
        try:
            body = {**defaults, **make()}
            if model and "prompt" in body:
                body.setdefault("model", model)
            _check(body)
        except _WrongLine as error:
            wrong += [place(name, line, field, why) for field, why in error.wrong]
            if len(wrong) >= _MOST_SHOWN:
                break
        else:
            if not wrong:
                yield Task(line, body)
    if wrong:
        raise wrong_lines(wrong)


def place(name: str, line: int, field: str, why: str) -> str:
    """Where something is wrong, in the form that compilers and editors use."""
    return f"{name}:{line}: {field}: {why}" if field else f"{name}:{line}: {why}"


def wrong_lines(wrong: Iterable[str]) -> Problem:
    """The error that says so."""
    shown = "\n  ".join(list(wrong)[:_MOST_SHOWN])
    return Problem(f"nothing was submitted:\n  {shown}", WRONG)


def _check(body: Mapping[str, Any]) -> None:
    """What can be seen here is; the rest the service says."""
    wrong = []
    for field, value in body.items():
        kinds = _KINDS.get(field)
        if kinds is None:
            wrong.append((field, "there is no such field (of a batch)"))
        elif not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            wrong.append((field, f"must be {_NAMES[kinds[-1]]}"))
    if body.get("task_type", _DEFAULT_TYPE) == _DEFAULT_TYPE:
        for field in ("prompt", "model"):
            if field not in body:
                wrong.append((field, "is missing" + (" (give --model for all)" if field == "model" else "")))
            elif not str(body[field]).strip():
                wrong.append((field, "is blank"))
    if wrong:
        raise _WrongLine(*wrong)


def _jsonl(file: IO[bytes]) -> Iterator[tuple[int, Callable[[], dict[str, Any]]]]:
    for number, line in enumerate(file, 1):
        content = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if content.strip():
            yield number, partial(_object, content)


def json_object(content: bytes | str) -> dict[str, Any]:
    """The object that JSON holds.

    Raises:
        ValueError: it holds none; the message says what it is instead.
    """
    try:
        found = orjson.loads(content)
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError('is not an object, like {"name": "value"}')
    return found


def _object(line: bytes) -> dict[str, Any]:
    try:
        return json_object(line)
    except ValueError as error:
        raise _WrongLine(("", str(error))) from None


def _csv(file: IO[bytes]) -> Iterator[tuple[int, Callable[[], dict[str, Any]]]]:
    csv.field_size_limit(_CELL_CHARS)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        yield from _rows(csv.reader(text, strict=True))
    finally:
        text.detach()  # whoever opened the file closes it


def _rows(rows: "_csv_reader") -> Iterator[tuple[int, Callable[[], dict[str, Any]]]]:
    columns: list[str] = []
    before = 0
    while True:
        try:
            cells = next(rows, None)
        except (csv.Error, UnicodeDecodeError) as error:
            yield before + 1, partial(_fail, f"is not CSV in UTF-8: {error}")
            return
        line, before = before + 1, rows.line_num
        if cells is None:
            return
        if not columns:
            columns = [cell.strip() for cell in cells]
            if unfit := _unfit(columns):
                yield line, partial(_fail, unfit)
                return
        elif cells:
            yield line, partial(_row, columns, cells)


def _unfit(columns: list[str]) -> str | None:
    """What is wrong with the first line of a CSV file, if anything."""
    if len(set(columns)) < len(columns):
        return "two columns have the same name"
    for name in columns:
        part = _PART.fullmatch(name)
        if name not in _KINDS and not part:
            return f"there is no column {name!r} (a task's fields, input.NAME and metadata.NAME are)"
        if part and part[1] in columns:
            return f"{part[1]!r} and {name!r} are columns both: take one or the other"
    return None


def _fail(why: str) -> dict[str, Any]:
    raise _WrongLine(("", why))


def _row(columns: list[str], cells: list[str]) -> dict[str, Any]:
    if len(cells) != len(columns):
        raise _WrongLine(("", f"has {len(cells)} cells, the first line {len(columns)}"))
    body: dict[str, Any] = {}
    wrong = []
    for column, cell in zip(columns, cells, strict=True):
        whole, _, part = column.partition(".")
        if not cell:
            continue
        if part:
            body.setdefault(whole, {})[part] = _value(cell) if whole == "input" else cell
        elif _KINDS[column] == (str,):
            body[column] = cell
        else:
            try:
                body[column] = orjson.loads(cell)
            except ValueError:
                wrong.append((column, f"must be {_NAMES[_KINDS[column][-1]]}"))
    if wrong:
        raise _WrongLine(*wrong)
    return body


def _value(cell: str) -> Any:
    """A number, list and the like as JSON writes them; all else is text."""
    try:
        return orjson.loads(cell)
    except ValueError:
        return cell
