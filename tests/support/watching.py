"""Watchers of server-sent events."""

import threading
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import httpx
import orjson

from tests.support.waiting import wait_until

STREAM = {"Accept": "text/event-stream"}


class Event(NamedTuple):
    """One server-sent event; `id` is what `Last-Event-ID` would be after it."""

    id: str
    kind: str
    data: Any


def parse(lines: Iterable[str]) -> Iterator[Event]:
    """The events in lines of a stream."""
    last_id = kind = ""
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "id":
            last_id = value
        elif name == "event":
            kind = value
        elif name == "data":
            yield Event(last_id, kind, orjson.loads(value))


def text_of(events: Iterable[Event]) -> str:
    """The text of the newest attempt; its pieces must follow each other without gap or double."""
    text = ""
    for event in events:
        if event.kind == "text":
            text = "" if event.data["offset"] == 0 else text
            assert event.data["offset"] == len(text), f"a gap or a double: {event} after {text!r}"
            text += event.data["text"]
    return text


def states_of(events: Iterable[Event]) -> list[str]:
    """The states that a task went to."""
    return [event.data["to_status"] for event in events if event.kind == "state"]


class Watch:
    """A stream over HTTP, read in a thread of its own."""

    def __init__(self, base_url: str, path: str, **headers: str) -> None:
        self.events: list[Event] = []
        self.is_over = False
        self._client = httpx.Client(base_url=base_url, timeout=60, verify=False)  # there is no TLS to prepare for
        self._request = self._client.build_request("GET", path, headers={**STREAM, **headers})
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            with self._client:
                response = self._client.send(self._request, stream=True)
                self.events.extend(parse(response.iter_lines()))
        except httpx.HTTPError:  # cut off
            pass
        finally:
            self.is_over = True

    def until(self, state: str, limit: float = 30) -> None:
        """Wait until it was told of this state."""
        wait_until(lambda: state in states_of(self.events), f"told of {state}; last {self.events[-2:]}", limit)

    def ended(self, limit: float = 30) -> str:
        """The status it ended with."""
        wait_until(lambda: self.is_over, "the stream has ended", limit)
        assert self.events[-1].kind == "end", self.events[-3:]
        return str(self.events[-1].data["status"])
