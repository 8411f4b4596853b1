"""A watcher of server-sent events."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import orjson

from tests.support.waiting import wait_until

STREAM = {"Accept": "text/event-stream"}


class Watch:
    """What a stream has told so far: `(event, data)` each, read in a thread of its own."""

    def __init__(self, base_url: str, path: str, **headers: str) -> None:
        self.events: list[tuple[str, Any]] = []
        self.last_id = ""
        self.comments = 0
        self.is_over = False
        self.status: int | None = None
        self._client = httpx.Client(base_url=base_url, timeout=60)
        self._path = path
        self._headers = {**STREAM, **headers}
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            with self._client.stream("GET", self._path, headers=self._headers) as response:
                self.status = response.status_code
                self._take(response.iter_lines())
        except (httpx.HTTPError, RuntimeError, OSError):  # cut off, or closed by `close`
            pass
        finally:
            self.is_over = True

    def _take(self, lines: Iterator[str]) -> None:
        kind = ""
        for line in lines:
            name, _, value = line.partition(": ")
            if line.startswith(":"):
                self.comments += 1
            elif name == "id":
                self.last_id = value
            elif name == "event":
                kind = value
            elif name == "data":
                self.events.append((kind, orjson.loads(value)))

    def of(self, kind: str) -> list[Any]:
        """The data of the events of one kind."""
        return [data for name, data in list(self.events) if name == kind]

    def states(self) -> list[str]:
        """The states that the task went to."""
        return [data["to_status"] for data in self.of("state")]

    def text(self) -> str:
        """The text of the newest attempt; pieces must follow each other without gap or double."""
        text = ""
        for piece in self.of("text"):
            text = "" if piece["offset"] == 0 else text
            assert piece["offset"] == len(text), f"a gap or a double: {piece} after {text!r}"
            text += piece["text"]
        return text

    def ended(self, limit: float = 30) -> str:
        """The status it ended with."""
        wait_until(lambda: self.is_over, f"the stream has ended; it told {self.events[-3:]}", limit)
        (end,) = self.of("end")
        assert self.events[-1][0] == "end"
        return str(end["status"])

    def close(self) -> None:
        """Go away."""
        self._client.close()


@contextmanager
def watching(base_url: str, path: str, **headers: str) -> Iterator[Watch]:
    """A watch for the block."""
    watch = Watch(base_url, path, **headers)
    try:
        yield watch
    finally:
        watch.close()
