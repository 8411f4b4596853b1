"""Commands of the command line against a service that is played."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import orjson

from cli.app import main
from cli.client import Client
from cli.connection import Place

Answer = httpx.Response | Exception


class Service:
    """Answers by rule; `calls` are what it was asked."""

    def __init__(self, answer: Callable[[httpx.Request], Answer]) -> None:
        self.calls: list[httpx.Request] = []
        self.pauses: list[float] = []
        self._answer = answer

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls.append(request)
        answer = self._answer(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self, patience: float = 60.0) -> Client:
        """A client of it, which does not really pause."""
        return Client(
            Place("http://service", None), patience, transport=httpx.MockTransport(self), sleep=self.pauses.append
        )

    def run(self, *arguments: str) -> int:
        """A command's exit code."""
        return main(arguments, self.client)

    def bodies(self, path: str) -> list[Any]:
        """What was posted there."""
        return [orjson.loads(call.content) for call in self.calls if call.url.path == path and call.method == "POST"]


class Batches:
    """A service that has batches, whose tasks have ended at once; it knows Idempotency-Keys."""

    def __init__(self) -> None:
        self.batches: dict[str, list[dict[str, Any]]] = {}
        self.failing: set[str] = set()
        self.cancelled: list[int] = []
        self.ended: set[int] = set()  # too late to cancel them
        self.refused: dict[int, dict[str, Any]] = {}
        self.broken = 0  # from so many batches on, if any
        self.service = Service(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/api/v1/health":
            return httpx.Response(200, json={"status": "ok"})
        if path == "/api/v1/tasks/batch":
            return self._submit(request)
        if path.endswith("/cancel"):
            batch_id = int(path.split("/")[-2])
            if batch_id in self.ended:
                return httpx.Response(409, json={"message": f"Batch {batch_id} has ended already."})
            self.cancelled.append(batch_id)
            return httpx.Response(200, json={})
        if path.endswith("/events"):
            tasks = self._tasks(int(path.split("/")[-2]))
            counts = {"COMPLETED": len(tasks)}
            return httpx.Response(200, content=events(("batch", {"counts": counts}), ("end", {"status": "COMPLETED"})))
        tasks = self._tasks(int(request.url.params["batch_id"]))
        skip, limit = int(request.url.params["skip"]), int(request.url.params["limit"])
        return httpx.Response(200, json=tasks[skip : skip + limit], headers={"X-Total-Count": str(len(tasks))})

    def _submit(self, request: httpx.Request) -> httpx.Response:
        number = len(self.batches)
        if self.broken and number >= self.broken:
            return httpx.Response(500, json={"message": "broken"})
        if number in self.refused:
            body = {"message": "no", "errors": {"json": {"tasks": self.refused[number]}}}
            return httpx.Response(422, json=body)
        key = request.headers["Idempotency-Key"]
        if key in self.batches:
            known = list(self.batches).index(key) + 1
            return httpx.Response(200, json={"id": known}, headers={"Idempotent-Replayed": "true"})
        self.batches[key] = orjson.loads(request.content)["tasks"]
        return httpx.Response(201, json={"id": number + 1})

    def _tasks(self, batch_id: int) -> list[dict[str, Any]]:
        given = list(self.batches.values())[batch_id - 1]
        empty: dict[str, Any] = {"input": {}, "error": None, "usage": None, "metadata": {}}
        return [
            {
                **empty, **task, "id": 100_000 * batch_id + number, "result": {"text": "ok"},
                "status": "FAILED" if task["prompt"] in self.failing else "COMPLETED",
            }
            for number, task in enumerate(given)
        ]  # fmt: skip


def events(*said: tuple[str, Any]) -> bytes:
    """A stream of them."""
    return b"".join(f"event: {kind}\ndata: ".encode() + orjson.dumps(data) + b"\n\n" for kind, data in said)


def lines_of(path: Path) -> list[Any]:
    """The documents in a JSONL file."""
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]
