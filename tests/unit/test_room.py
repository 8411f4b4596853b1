"""Submissions are refused while too many tasks wait, and that is not counted for each of them."""

from typing import Any, cast

import pytest

from jobs.errors import TooManyPending
from jobs.room import Room
from jobs.store.database import Session


class Counting:
    """A session that says how many wait."""

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self.asked = 0

    def one(self, _name: str, parameters: dict[str, Any]) -> dict[str, int]:
        self.asked += 1
        return {"tasks": min(self.waiting, parameters["limit"])}


def test_there_is_room_up_to_the_limit() -> None:
    counting = Counting(90)
    room, session = Room(100), cast(Session, counting)
    room.take(session, 9)
    room.take(session, 1)
    with pytest.raises(TooManyPending, match="100 tasks are waiting"):
        room.take(session, 1)
    assert counting.asked == 1


def test_what_is_refused_takes_no_room() -> None:
    room, session = Room(100), cast(Session, Counting(90))
    with pytest.raises(TooManyPending):
        room.take(session, 11)
    room.take(session, 10)


def test_without_a_limit_nothing_is_counted() -> None:
    counting = Counting(10**9)
    Room(0).take(cast(Session, counting), 10_000)
    assert not counting.asked
