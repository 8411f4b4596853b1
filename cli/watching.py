"""Tasks and batches as they happen: the text on standard output, how far they are on a line of standard error."""

import sys
import time
from typing import Any

import click

from cli import show
from cli.client import Client
from cli.live import Line, Progress, ended
from cli.problems import say


class _Text:
    """The text of the newest attempt, on standard output as it comes.

    On a terminal in pieces; elsewhere whoever reads it gets the answer alone, once.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._text = ""
        self._is_terminal = sys.stdout.isatty()

    def take(self, offset: int, piece: str) -> None:
        """A piece; a new attempt begins anew."""
        if not self._is_terminal:
            return
        self._line.stop()
        if offset < len(self._text):
            click.echo()
            say("that attempt ended early; the next one begins anew")
            self._text = self._text[:offset]
        self._text += piece
        show.text(piece, nl=False)

    def end(self, whole: str | None) -> None:
        """The answer: what of it was not shown."""
        self._line.stop()
        if self._text:
            click.echo()
        if whole is not None and whole != self._text:
            show.text(whole)


def watch_task(client: Client, number: int, *, json: bool, only_text: bool = False) -> bool:
    """Until it has ended.

    Args:
        only_text: print nothing but its answer; with `json`, nothing but the task.

    Returns:
        Whether it ended well.
    """
    began, said = time.monotonic(), "waiting"
    line = Line(lambda: f"task {number}: {said}, {show.span(time.monotonic() - began)}")
    with line:
        text = _Text(line)
        for event in client.follow(f"/api/v1/tasks/{number}/events"):
            if json and not only_text:
                show.as_json({"event": event.kind, "id": event.id or None, "data": event.data})
            elif event.kind == "text" and not json:
                text.take(event.data["offset"], event.data["text"])
            said = _said(event.kind, event.data) or said
        task = client.get(f"/api/v1/tasks/{number}")
        result = task["result"] if isinstance(task["result"], dict) else {}
        text.end(None if json else result.get("text"))
    if json:
        if only_text:
            show.as_json(task)
    else:
        if "text" not in result and result:
            show.as_json(result)
        say(show.outcome(task))
    return bool(task["status"] == "COMPLETED")


def _said(kind: str, data: dict[str, Any]) -> str | None:
    if kind == "state":
        attempt = f" (attempt {data['attempt']})" if data["attempt"] > 1 else ""
        return f"{data['to_status']}{attempt}"
    if kind == "progress":
        return f"{data['percent']}%{' ' + data['message'] if data['message'] else ''}"
    return None


def watch_batch(client: Client, number: int, *, json: bool) -> bool:
    """Until every task of it has ended; returns whether all ended well."""
    found = client.get(f"/api/v1/batches/{number}")
    progress = Progress(found["total"], ended(found["counts"]))
    with Line(lambda: f"batch {number} {progress}"):
        for event in client.follow(f"/api/v1/batches/{number}/events"):
            if json:
                show.as_json({"event": event.kind, "id": event.id or None, "data": event.data})
            if event.kind == "batch":
                found = event.data
                progress.done, progress.failed = ended(found["counts"]), found["counts"].get("FAILED", 0)
    if not json:
        show.batch(found)
    return bool(found["counts"].get("COMPLETED", 0) == found["total"])
