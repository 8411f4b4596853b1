"""Everything that follows a transition is declared in one place."""

from typing import Any

import pytest

from jobs import hooks
from jobs.hooks import HOOKS, Hook, listen
from jobs.lifecycle import TERMINAL, Status
from jobs.store.queries import QUERIES


def moved(status: Status, **facts: Any) -> dict[str, Any]:
    return {"id": 1, "status": status, "task_type": "t", "has_callback": False, "has_children": False, **facts}


@pytest.fixture
def listeners(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "_listeners", [])


def test_each_hook_is_a_statement() -> None:
    assert {hook.statement for hook in HOOKS} | set(hooks.BATCH_HOOKS) <= set(QUERIES)


@pytest.mark.parametrize(
    ("hook", "row", "concerns"),
    [
        (Hook("s", TERMINAL), moved(Status.FAILED), True),
        (Hook("s", TERMINAL), moved(Status.RETRYING), False),
        (Hook("s", TERMINAL, task_type="t"), moved(Status.FAILED), True),
        (Hook("s", TERMINAL, task_type="u"), moved(Status.FAILED), False),
        (Hook("s", TERMINAL, flag="has_callback"), moved(Status.FAILED), False),
        (Hook("s", TERMINAL, flag="has_callback"), moved(Status.FAILED, has_callback=True), True),
    ],
)
def test_a_hook_concerns_some_transitions(hook: Hook, row: dict[str, Any], concerns: bool) -> None:
    assert hook.concerns(row) == concerns


@pytest.mark.usefixtures("listeners")
def test_listeners_hear_of_what_they_listen_for() -> None:
    heard: list[tuple[str, list[int]]] = []
    listen(Status.RETRYING)(lambda rows: heard.append(("retries", [row["id"] for row in rows])))
    listen()(lambda rows: heard.append(("ends", [row["id"] for row in rows])))
    hooks.tell([moved(Status.RETRYING, id=7), moved(Status.COMPLETED, id=8), moved(Status.PENDING, id=9)])
    assert heard == [("retries", [7]), ("ends", [8])]


@pytest.mark.usefixtures("listeners")
def test_a_listener_that_raises_does_not_silence_the_others() -> None:
    heard: list[int] = []

    @listen()
    def broken(_rows: Any) -> None:
        raise KeyError

    listen()(lambda rows: heard.append(len(rows)))
    hooks.tell([moved(Status.FAILED)])
    assert heard == [1]
