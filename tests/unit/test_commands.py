"""What stands in a worker's channel may be anything."""

import asyncio
from typing import Any, cast

import pytest

from jobs.commands import Commands

ODD = [
    b"\xff", b"[1]", b'"text"', b"7", b"{}", b'{"command": "cancel-tasks", "task_ids": [Infinity]}',
    b'{"command": "cancel-tasks", "task_ids": [{}]}', b"[" * 100_000,
    b'{"command": "stop-job", "job_id": "' + b"9" * 5000 + b'"}',
]  # fmt: skip


@pytest.mark.parametrize("data", ODD, ids=range(len(ODD)))
def test_what_is_not_understood_is_ignored(data: bytes) -> None:
    nothing = cast(Any, None)  # is to be touched
    commands = Commands(nothing, nothing, "channel", nothing, nothing)
    asyncio.run(commands._obey({"type": "message", "data": data}))
