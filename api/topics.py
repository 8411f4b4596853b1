"""What those who watch one task or batch share, and what each of them has yet to be sent.

Only the hub's thread changes a topic. A watcher keeps its own place in it and takes what is new whenever it can write,
so that a slow one is sent the same in fewer pieces, and nothing piles up for it.
"""

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson

from jobs.lifecycle import TERMINAL, Status
from jobs.store.database import Row

_PROCESSING: Final = Status.PROCESSING
_PLACE: Final = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
_EVENT: Final = ("id", "at", "from_status", "to_status", "attempt", "worker", "detail")


def frame(kind: str, data: Any, event_id: str | None = None) -> bytes:
    """One server-sent event; JSON has no line ends of its own."""
    head = f"id: {event_id}\n" if event_id else ""
    return f"{head}event: {kind}\ndata: ".encode() + orjson.dumps(data, option=orjson.OPT_UTC_Z) + b"\n\n"


@dataclass(slots=True)
class Place:
    """How far the watcher of a task has come: written `EVENT` or `EVENT-OFFSET`, as the ids of the events it is sent.

    Attributes:
        event: the last event of the task's log that it knows.
        offset: how many characters it knows of the text of the attempt that this event belongs to.
    """

    event: int = 0
    offset: int = 0

    @classmethod
    def parse(cls, text: str) -> "Place":
        """The place that a `Last-Event-ID` names; the beginning when it is none of ours."""
        match = _PLACE.fullmatch(text)
        return cls(int(match[1]), int(match[2] or 0)) if match else cls()

    def __str__(self) -> str:
        return f"{self.event}-{self.offset}" if self.offset else str(self.event)


def _begins(event: Row) -> bool:
    return bool(event["to_status"] == _PROCESSING != event["from_status"])


def ends_attempt(event: Row) -> bool:
    """Whether this event of a task's log is the end of an attempt."""
    return bool(event["from_status"] == _PROCESSING != event["to_status"])


class Topic:
    """What is watched. `due` is when (monotonic) it is to be read next, `seen` when it was read last."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.watchers = 0
        self.due = self.seen = 0.0
        self.is_closed = False
        self.lock = threading.Condition()
        self._version = 0

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Change it and have the watchers look."""
        with self.lock:
            yield
            self._version += 1
            self.lock.notify_all()

    def wait(self, known: int, seconds: float) -> int:
        """The topic's version, as soon as it is not `known`, or after so many seconds."""
        with self.lock:
            self.lock.wait_for(lambda: self._version != known, seconds)
            return self._version

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.is_closed

    def close(self) -> None:
        """Let the watchers go."""
        with self.changing():
            self.is_closed = True


class TaskTopic(Topic):
    """A task: its event log, the text of its newest attempt, and how far that is."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status: str | None = None
        self.events: list[Row] = []
        self.begin = 0  # the event with which the newest attempt began
        self.fence = -1
        self.text = ""
        self.text_is_told = False  # a worker said that no text of the attempt is on its way any more
        self._progress: tuple[int, int, str | None] = (-1, 0, None)  # fence, percent, message

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.is_closed or self.status in TERMINAL

    @property
    def last_event(self) -> int:
        """The newest event that is known."""
        return int(self.events[-1]["id"]) if self.events else 0

    @property
    def progress(self) -> tuple[int, str | None] | None:
        """How far the newest attempt is, once it has said so."""
        fence, percent, message = self._progress
        is_said = fence == self.fence and self.status == _PROCESSING and (percent or message)
        return (percent, message) if is_said else None

    def learn(self, task: Row, events: Sequence[Row], text: str) -> None:
        """Take in what is stored: the task, the events behind the last known one, the text of the newest attempt."""
        is_new = task["fence"] != self.fence
        if not (is_new or events or len(text) > len(self.text)):
            return
        with self.changing():
            self.status = task["status"]
            if is_new:
                self.fence, self.text = task["fence"], ""
                if self._progress[0] != self.fence:
                    self._progress = (self.fence, task["progress"], task["progress_message"])
            if len(text) > len(self.text):
                self.text = text
            for event in events:
                self.events.append({name: event[name] for name in _EVENT})
                if _begins(event):
                    self.begin = event["id"]
                    self.text_is_told = False

    def hear(self, news: Mapping[str, Any]) -> bool:
        """Take in what a worker tells; False when something before it is missing.

        Raises:
            KeyError, TypeError: it is not understood.
        """
        fence = news["fence"]
        if fence < self.fence:
            return True
        if news["type"] == "progress":
            with self.changing():
                self._progress = (fence, int(news["percent"]), news["message"])
            return bool(fence == self.fence)
        known = len(self.text) - news["offset"]
        if fence > self.fence or known < 0:
            return False
        with self.changing():
            self.text += news["text"][known:]
        return True


class BatchTopic(Topic):
    """A batch, as the API shows it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.batch: dict[str, Any] | None = None

    @property
    def is_over(self) -> bool:
        """Whether every task has ended."""
        return self.is_closed or (self.batch is not None and self.batch["progress"] == 100)

    def learn(self, batch: dict[str, Any]) -> None:
        """Take in what is stored."""
        if batch != self.batch:
            with self.changing():
                self.batch = batch


class TaskWatcher:
    """Somebody who watches a task."""

    def __init__(self, topic: TaskTopic, place: Place) -> None:
        self.is_done = False
        self._topic = topic
        self._place = place
        self._progress: tuple[int, str | None] | None = None

    def news(self) -> bytes:
        """What it has yet to be sent; nothing more after the end."""
        with self._topic.lock:
            return b"".join(self._frames())

    def _frames(self) -> Iterator[bytes]:
        topic, place = self._topic, self._place
        for event in topic.events:
            if event["id"] > place.event:
                yield from self._event(event)
        if topic.status == _PROCESSING:
            yield from self._text()
        if topic.progress and topic.progress != self._progress:
            self._progress = percent, message = topic.progress
            yield frame("progress", {"percent": percent, "message": message})
        if topic.status in TERMINAL:
            self.is_done = True
            yield frame("end", {"status": topic.status})

    def _event(self, event: Row) -> Iterator[bytes]:
        if ends_attempt(event):
            yield from self._text()
        if ends_attempt(event) or _begins(event):
            self._place.offset = 0
        self._place.event = event["id"]
        yield frame("state", event, str(self._place))

    def _text(self) -> Iterator[bytes]:
        """What is new of the newest attempt's text, if that is the attempt which the watcher has come to."""
        place = self._place
        if place.event >= self._topic.begin and (new := self._topic.text[place.offset :]):
            told = {"offset": place.offset, "text": new}
            place.offset += len(new)
            yield frame("text", told, str(place))


class BatchWatcher:
    """Somebody who watches a batch."""

    def __init__(self, topic: BatchTopic) -> None:
        self.is_done = False
        self._topic = topic

    def news(self) -> bytes:
        """The batch as it is now; nothing more after the end."""
        batch = self._topic.batch
        if batch is None:
            return b""
        self.is_done = self._topic.is_over
        end = frame("end", {"status": batch["status"]}) if self.is_done else b""
        return frame("batch", batch) + end


Watcher = TaskWatcher | BatchWatcher
