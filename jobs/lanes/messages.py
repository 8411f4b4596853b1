"""What a worker and its member processes say to each other: JSON, one message a line.

Worker to member: one task after another. Member to worker, for each: `{"progress": [percent, message]}`,
`{"text": piece}`, at last `{"done": result}` or `{"failed": kind, ...}`, each with what it cost.
"""

from dataclasses import asdict
from typing import Any, Final

import orjson

from jobs.errors import TaskError
from jobs.handlers.context import Facts

LONGEST_LINE: Final = 256 * 1024 * 1024


def pack(message: dict[str, Any]) -> bytes:
    """As a line.

    Raises:
        TypeError: it holds what JSON cannot.
    """
    return orjson.dumps(message) + b"\n"


def pack_task(facts: Facts) -> bytes:
    """A task as the first message to a member."""
    return pack(asdict(facts))


def unpack_task(line: bytes) -> Facts:
    """The other side of `pack_task`."""
    facts = orjson.loads(line)
    return Facts(**{**facts, "limits": tuple(facts["limits"])})


def unpack_error(message: dict[str, Any]) -> TaskError:
    """The error of a `failed` message."""
    return TaskError(**message["error"])
