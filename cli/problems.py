"""How commands end, as scripts see it; docs/command-line.md has the table."""

import sys
from typing import Any, Final

import click

from jobs.secrets import clean

BAD_OUTCOME: Final = 1  # it was done, and what came of it is bad: a task failed, a check found something
WRONG: Final = 2  # arguments, settings or input; click's own code for wrong usage
REFUSED: Final = 3
NOT_THERE: Final = 4
CONFLICT: Final = 5
AWAY: Final = 6
UNEXPECTED: Final = 70  # a mistake of ours; sysexits.h has it so
INTERRUPTED: Final = 130  # as shells have it for Ctrl-C

_CODES: Final = {401: REFUSED, 403: REFUSED, 404: NOT_THERE, 409: CONFLICT, 408: AWAY, 429: AWAY}


class Problem(Exception):
    """A command cannot go on: one message for standard error, and the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class BadTasks(Problem):
    """The service refused a batch because of some of its tasks.

    Attributes:
        wrong: position in the batch -> field -> what is wrong with it.
    """

    def __init__(self, message: str, wrong: dict[int, dict[str, str]]) -> None:
        super().__init__(message, WRONG)
        self.wrong = wrong


def say(text: str) -> None:
    """A word to the person at the terminal, on standard error."""
    clear = "\r\x1b[2K" if sys.stderr.isatty() else ""  # a line that tells how far things are may stand there
    click.echo(f"{clear}{clean(f'pressroom: {text}')}", err=True)


def problem_of(status: int, body: Any, where: str) -> Problem:
    """What an answer that is no success means; `where` names the service."""
    code = _CODES.get(status, AWAY if status >= 500 else WRONG)
    if not isinstance(body, dict) or "message" not in body:
        question = "does it run behind its proxy?" if status in (502, 503, 504) else "is the address right?"
        return Problem(f"{where} answered {status}, and not as Pressroom does: {question}", code)
    errors = body.get("errors")
    found = errors if isinstance(errors, dict) else {}
    tasks = found.get("json", {}).get("tasks") if isinstance(found.get("json"), dict) else None
    if isinstance(tasks, dict) and all(str(place).isdigit() for place in tasks):
        return BadTasks(body["message"], {int(place): dict(flat(wrong)) for place, wrong in tasks.items()})
    details = "; ".join(f"{field}: {said}" for part in found.values() for field, said in flat(part))
    message = details or str(body["message"])
    if status == 401:
        message += " Put a key into PRESSROOM_API_KEY, or name a file that has it with --key-file."
    return Problem(message, code)


def flat(errors: Any, path: str = "") -> list[tuple[str, str]]:
    """Nested errors as pairs of a dotted field and what is wrong with it."""
    if isinstance(errors, dict):
        found = [pair for name, inner in errors.items() for pair in flat(inner, f"{path}.{name}" if path else name)]
        return [(name.removesuffix("._schema"), said) for name, said in found]
    said = " ".join(map(str, errors)) if isinstance(errors, list) else str(errors)
    return [(path or "body", said)]
