"""Those who submit: they note what was acknowledged, and what has to come of it."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

_PATIENCE_SECONDS = 90.0
_KEYED = 0.8  # of the submissions carry an Idempotency-Key, and are repeated until they are answered

# So that no task may fail for the endpoint's moods alone.
_STUBBORN = {
    "max_retries": 12,
    "timeout_seconds": 8,
    "retry": {"strategy": "exponential", "base_delay": 0.5, "max_delay": 4.0},
}


@dataclass(frozen=True, slots=True)
class Promise:
    """An acknowledged task.

    Attributes:
        tag: in its prompt or input, and nowhere else.
        result: what of its result must be so.
        ends: the states it may end in.
    """

    id: int
    tag: str
    result: dict[str, Any]
    ends: frozenset[str] = frozenset({"COMPLETED"})


@dataclass
class Notes:
    """What all clients noted."""

    promises: list[Promise] = field(default_factory=list)
    batches: list[tuple[int, int]] = field(default_factory=list)
    schedules: list[int] = field(default_factory=list)
    keyed: list[str] = field(default_factory=list)
    unanswered: int = 0
    refusals: list[float] = field(default_factory=list)
    slowest: float = 0.0
    wrong: list[str] = field(default_factory=list)


class Front:
    """The web processes as a load balancer shows them: who does not answer is passed over."""

    def __init__(self, ports: list[int], notes: Notes) -> None:
        self._clients = [httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) for port in ports]
        self._notes = notes
        self._next = 0

    def close(self) -> None:
        """Close its connections."""
        for client in self._clients:
            client.close()

    def send(self, method: str, path: str, *, repeat: bool = True, **request: Any) -> httpx.Response | None:
        """The answer; with `repeat`, asked until there is one below 500. None: nobody knows what became of it."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            client = self._clients[self._next % len(self._clients)]
            self._next += 1
            began = time.monotonic()
            try:
                answer = client.request(method, path, **request)
            except httpx.HTTPError:
                pause = 0.05
            else:
                took = time.monotonic() - began
                self._notes.slowest = max(self._notes.slowest, took)
                if answer.status_code < 500:
                    return answer
                self._notes.refusals.append(took)
                if answer.status_code != 503 or "Retry-After" not in answer.headers:
                    self._notes.wrong.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
                pause = 0.3
            if not repeat:
                break
            time.sleep(pause)
        self._notes.unanswered += 1
        return None


class Client(threading.Thread):
    """Submits a mixed load until told to stop."""

    def __init__(
        self, number: int, seed: int, front: Front, notes: Notes, rate: float, enough: threading.Event
    ) -> None:
        super().__init__(daemon=True, name=f"client-{number}")
        self._number = number
        self._chance = random.Random(f"{seed} {number}")
        self._front = front
        self._notes = notes
        self._rate = rate
        self._enough = enough
        self._count = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        """One submission after another, at the wanted rate."""
        kinds: list[tuple[Callable[[], int], int]] = [
            (self._single, 30), (self._batch, 12), (self._family, 12), (self._document, 6), (self._in_lane, 12),
            (self._cancelled, 5),
        ]  # fmt: skip
        try:
            self._schedule()
            while not self._enough.is_set():
                (kind,) = self._chance.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])
                self._enough.wait(kind() / self._rate * self._chance.uniform(0.5, 1.5))
        except BaseException as error:
            self.failure = error
            raise
        finally:
            self._front.close()

    def _tag(self) -> str:
        self._count += 1
        return f"tag-{self._number}-{self._count}"

    def _submit(self, path: str, body: dict[str, Any], *tags: str) -> Any:
        """What was made; None when that is not known."""
        is_keyed = self._chance.random() < _KEYED
        headers = {"Idempotency-Key": tags[0]} if is_keyed else {}
        answer = self._front.send("POST", path, json=body, headers=headers, repeat=is_keyed)
        if answer is None:
            return None
        if answer.status_code not in (200, 201):
            self._notes.wrong.append(f"POST {path}: {answer.status_code} {answer.text[:200]}")
            return None
        if is_keyed:
            self._notes.keyed += tags
        return answer.json()

    def _text(self, tag: str) -> dict[str, Any]:
        priority = self._chance.randint(1, 10)
        return {"prompt": f"say {tag}", "model": self._chance.choice("ab"), "priority": priority, **_STUBBORN}

    def _promise(self, made: dict[str, Any], mark: str, *ends: str, **result: Any) -> None:
        self._notes.promises.append(Promise(made["id"], mark, result, frozenset({"COMPLETED", *ends})))

    def _single(self) -> int:
        tag = self._tag()
        task = self._text(tag)
        if self._chance.random() < 0.15:
            task["delay_seconds"] = self._chance.randint(1, 5)
        if made := self._submit("/api/v1/tasks", task, tag):
            self._promise(made, tag, text=f"echo: say {tag}")
        return 1

    def _cancelled(self) -> int:
        tag = self._tag()
        if made := self._submit("/api/v1/tasks", self._text(tag), tag):
            self._promise(made, tag, "CANCELLED", text=f"echo: say {tag}")
            self._front.send("POST", f"/api/v1/tasks/{made['id']}/cancel", repeat=False)
        return 1

    def _batch(self) -> int:
        tags = [self._tag() for _ in range(self._chance.randint(3, 25))]
        if made := self._submit("/api/v1/tasks/batch", {"tasks": [self._text(tag) for tag in tags]}, *tags):
            self._notes.batches.append((made["id"], len(tags)))
            listed = self._front.send("GET", f"/api/v1/tasks?batch_id={made['id']}&limit=1000&sort=id")
            assert listed is not None
            for task, tag in zip(listed.json(), tags, strict=True):
                self._promise(task, tag, text=f"echo: say {tag}")
        return len(tags)

    def _family(self) -> int:
        parent_tag, tag = self._tag(), self._tag()
        parent = self._submit("/api/v1/tasks", self._text(parent_tag), parent_tag)
        if parent is None:
            return 1
        said = f"echo: say {parent_tag}"
        self._promise(parent, parent_tag, text=said)
        child = {**self._text(tag), "depends_on": [parent["id"]]}
        child["prompt"] = f"after {tag}: {{{{ parents[0].result.text }}}}"
        if made := self._submit("/api/v1/tasks", child, tag):
            self._promise(made, tag, text=f"echo: after {tag}: {said}")
        return 2

    def _document(self) -> int:
        tag = self._tag()
        given = {
            "text": "\n\n".join(f"{tag} part {number} " + "word " * 150 for number in range(3)),
            "part_chars": 1000,
        }
        body = {"task_type": "document_analysis", "input": given, **_STUBBORN, "timeout_seconds": 15}
        if made := self._submit("/api/v1/tasks", body, tag):
            self._promise(made, tag, summary=tag)
        return 1

    def _in_lane(self) -> int:
        tag = self._tag()
        kind = self._chance.choice(["gauntlet_thread", "gauntlet_process"])
        if made := self._submit("/api/v1/tasks", {"task_type": kind, "input": {"tag": tag}, **_STUBBORN}, tag):
            self._promise(made, tag, tag=tag)
        return 1

    def poison(self) -> None:
        """A task that kills its worker, twice."""
        tag = self._tag()
        body = {"task_type": "gauntlet_poison", "input": {"tag": tag}, "max_retries": 1}
        answer = self._front.send("POST", "/api/v1/tasks", json=body, headers={"Idempotency-Key": tag})
        assert answer is not None
        self._notes.promises.append(Promise(answer.json()["id"], tag, {}, frozenset({"FAILED"})))

    def _schedule(self) -> None:
        tag = f"schedule-{self._number}"
        params = {"task_type": "gauntlet_thread", "input": {"tag": tag}, "priority": self._chance.randint(1, 10)}
        body = {
            "name": tag, "task_type": "submit_task", "cron_expression": None,
            "interval": self._chance.randint(2, 6), "interval_unit": "seconds", "params": params,
            "overlap_policy": "allow",
        }  # fmt: skip
        answer = self._front.send("POST", "/api/v1/scheduler/tasks", json=body)
        assert answer is not None
        assert answer.status_code == 201, answer.text
        self._notes.schedules.append(answer.json()["id"])
