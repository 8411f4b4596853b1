"""What a watcher of a task is sent: each event and each character once, whenever it comes and wherever it stopped."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from api.topics import Place, TaskTopic, TaskWatcher
from tests.support.watching import Event, parse, states_of, text_of

AT = datetime(2026, 1, 2, tzinfo=UTC)


def event(number: int, source: str | None, target: str) -> dict[str, Any]:
    states = {"from_status": source, "to_status": target}
    return {"id": number, "at": AT, "attempt": 1, "worker": None, "detail": None, **states}


def told(topic: TaskTopic, *events: dict[str, Any], fence: int = 1, text: str = "", percent: int = 0) -> None:
    """The topic learns from the database and Redis."""
    status = events[-1]["to_status"] if events else topic.status
    topic.learn({"status": status, "fence": fence, "progress": percent, "progress_message": None}, events, text)


def heard(topic: TaskTopic, offset: int, text: str, fence: int = 1) -> bool:
    return topic.hear({"type": "text", "fence": fence, "offset": offset, "text": text})


def sent(watcher: TaskWatcher) -> list[Event]:
    return list(parse(watcher.news().decode().splitlines()))


LIFE: list[Callable[[TaskTopic], Any]] = [
    lambda topic: told(topic, event(3, None, "PENDING"), fence=0),
    lambda topic: told(topic, event(5, "PENDING", "PROCESSING")),
    lambda topic: heard(topic, 0, "lost "),
    lambda topic: told(topic, event(6, "PROCESSING", "PROCESSING")),
    lambda topic: heard(topic, 5, "words"),
    lambda topic: told(topic, event(8, "PROCESSING", "RETRYING")),
    lambda topic: told(topic, event(9, "RETRYING", "PROCESSING"), fence=2),
    lambda topic: heard(topic, 0, "good", fence=2),
    lambda topic: heard(topic, 4, " text é中", fence=2),
    lambda topic: told(topic, event(12, "PROCESSING", "COMPLETED"), fence=2),
]
"""A task's life, step by step: an attempt that fails in the middle of its text, and one that completes."""


def watched(place: Place, since: int) -> list[list[Event]]:
    """What somebody is sent after each step of this life, who comes with this place after one of them."""
    topic = TaskTopic(1)
    watcher = TaskWatcher(topic, place)
    sent_at = []
    for number, step in enumerate(LIFE):
        step(topic)
        sent_at.append(sent(watcher) if number >= since else [])
    assert watcher.is_done
    return sent_at


@pytest.mark.parametrize(("text", "place"), [("7", Place(7)), ("7-12", Place(7, 12)), ("0", Place()), ("", Place())])
def test_a_place_is_read_as_it_is_written(text: str, place: Place) -> None:
    assert Place.parse(text) == place
    assert Place.parse(str(place)) == place


@pytest.mark.parametrize("text", ["x", "-1", "7-", "7-x", "1-2-3", " 7", "7\n", "9" * 30, "٣"])
def test_what_is_no_place_is_the_beginning(text: str) -> None:
    assert Place.parse(text) == Place()


def test_who_watches_all_along_sees_everything_in_order() -> None:
    events = list(itertools.chain(*watched(Place(), 0)))
    assert [(one.id, one.kind) for one in events] == [
        ("3", "state"), ("5", "state"), ("5-5", "text"), ("6-5", "state"), ("6-10", "text"), ("8", "state"),
        ("9", "state"), ("9-4", "text"), ("9-12", "text"), ("12", "state"), ("12", "end"),
    ]  # fmt: skip
    assert text_of(events) == "good text é中"
    assert events[-1].data == {"status": "COMPLETED"}


@pytest.mark.parametrize("late", range(len(LIFE)))
def test_who_comes_at_any_time_sees_every_event_once_and_the_newest_text(late: int) -> None:
    events = list(itertools.chain(*watched(Place(), late)))
    assert states_of(events) == ["PENDING", "PROCESSING", "PROCESSING", "RETRYING", "PROCESSING", "COMPLETED"]
    assert text_of(events) == "good text é中"


def test_who_is_cut_off_after_any_event_goes_on_without_gap_or_double() -> None:
    uncut = [(step, one) for step, sent_then in enumerate(watched(Place(), 0)) for one in sent_then]
    whole = [one for _, one in uncut]
    for number, (step, cut) in enumerate(uncut):
        for back in range(step, len(LIFE)):
            both = whole[: number + 1] + list(itertools.chain(*watched(Place.parse(cut.id), back)))
            assert states_of(both) == states_of(whole)
            assert text_of(both) == "good text é中"


def test_an_attempts_text_is_sent_before_its_end() -> None:
    topic = TaskTopic(1)
    told(
        topic, event(1, None, "PENDING"), event(2, "PENDING", "PROCESSING"), event(4, "PROCESSING", "FAILED"), text="t"
    )
    kinds = [one.kind for one in sent(TaskWatcher(topic, Place()))]
    assert kinds == ["state", "state", "text", "state", "end"]


def test_pieces_that_overlap_are_cut_and_a_gap_is_noticed() -> None:
    topic = TaskTopic(1)
    told(topic, event(1, "PENDING", "PROCESSING"), text="0123")
    assert heard(topic, 2, "2345")
    assert heard(topic, 0, "01")
    assert topic.text == "012345"
    assert not heard(topic, 8, "89"), "6 and 7 are missing"
    assert topic.text == "012345"
    told(topic, text="0123456789")
    assert topic.text == "0123456789"
    told(topic, text="0123")
    assert topic.text == "0123456789", "an older state of the text takes nothing away"


def test_text_of_an_older_attempt_is_ignored_and_that_of_a_newer_one_asks_for_its_event() -> None:
    topic = TaskTopic(1)
    told(topic, event(1, "PENDING", "PROCESSING"), fence=2)
    assert heard(topic, 40, "from a worker that is given up", fence=1)
    assert not heard(topic, 0, "new", fence=3)
    assert topic.text == ""


def test_progress_is_sent_as_it_changes_and_begins_anew_with_an_attempt() -> None:
    topic = TaskTopic(1)
    watcher = TaskWatcher(topic, Place())
    told(topic, event(1, "PENDING", "PROCESSING"), percent=5)
    assert [one.data for one in sent(watcher) if one.kind == "progress"] == [{"percent": 5, "message": None}]
    topic.hear({"type": "progress", "fence": 1, "percent": 20, "message": "a"})
    topic.hear({"type": "progress", "fence": 1, "percent": 30, "message": "b"})
    assert [one.data for one in sent(watcher)] == [{"percent": 30, "message": "b"}]
    assert sent(watcher) == []
    told(topic, event(2, "PROCESSING", "RETRYING"), event(3, "RETRYING", "PROCESSING"), fence=2)
    assert [one.kind for one in sent(watcher)] == ["state", "state"]


@pytest.mark.parametrize("news", [[], {}, {"type": "text", "fence": "1"}, {"type": "text", "fence": 1, "offset": 0}])
def test_what_is_no_news_raises_what_the_hub_expects(news: Any) -> None:
    topic = TaskTopic(1)
    told(topic, event(1, "PENDING", "PROCESSING"))
    with pytest.raises((KeyError, TypeError)):
        topic.hear(news)
