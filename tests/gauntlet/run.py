"""One run: clients submit, blows fall, invariants are checked; what was seen is reported."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.gauntlet import invariants
from tests.gauntlet.blows import KINDS, Kind
from tests.gauntlet.clients import Client, Front, Notes
from tests.gauntlet.cluster import SCHEDULERS, WEBS, WORKERS, Cluster
from tests.support.waiting import wait_until

_CLIENTS = 8
_PAUSE = (0.3, 1.5)  # seconds of peace after a recovery
_RECOVERY_SECONDS = 60.0
_END_SECONDS = 180.0

Say = Callable[[str], None]


@dataclass
class Report:
    """What a run came to.

    Attributes:
        wrong: every broken promise; empty after a good run.
        recoveries: seconds until work flowed again, by kind of blow.
        reruns: seconds until the tasks of a lost worker ran again.
        refused: seconds until clients were told that PostgreSQL is away.
    """

    seed: int
    acknowledged: int = 0
    blows: int = 0
    wrong: list[str] = field(default_factory=list)
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    reruns: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def as_text(self) -> str:
        """For people."""
        lines = [f"seed {self.seed}: {self.acknowledged} tasks acknowledged, {self.blows} blows"]
        for name, seconds in sorted(self.recoveries.items()):
            lines.append(f"  {name:<24} {len(seconds):>3} x  flows again after {_range(seconds)}")
        lines.append(f"  tasks of lost workers ran again after {_range(self.reruns)}")
        lines.append(f"  {len(self.refused)} submissions were refused, after {_range(self.refused)}")
        lines += [f"  {name}: {value}" for name, value in self.facts.items()]
        lines += [f"  WRONG: {wrong}" for wrong in self.wrong] or ["  nothing lost, nothing doubled"]
        return "\n".join(lines)


def _range(seconds: Sequence[float]) -> str:
    return f"{sorted(seconds)[len(seconds) // 2]:.2f} s (most {max(seconds):.2f})" if seconds else "-"


def run(place: Path, seed: int, tasks: int, blows: int, say: Say, only: Sequence[str] = ()) -> Report:
    """A run with at least so many acknowledged tasks and blows."""
    report = Report(seed)
    with Cluster(place, seed).running() as cluster:
        Run(cluster, report, say).perform(tasks, blows, [kind for kind in KINDS if not only or kind.name in only])
    return report


class Run:
    """A run on a cluster that is up."""

    def __init__(self, cluster: Cluster, report: Report, say: Say) -> None:
        self._cluster = cluster
        self._report = report
        self._say = say
        self._chance = random.Random(report.seed)
        self._notes = Notes()
        self._enough = threading.Event()
        self._probes = Front(list(cluster.web_ports.values()), Notes())
        self._probe_number = 0

    def perform(self, tasks: int, blows: int, kinds: list[Kind]) -> None:
        """Load, blows, peace, and the checks of the end."""
        rate = max(1.0, tasks / (blows * 5.0) / _CLIENTS)
        clients = [
            Client(number, self._report.seed, self._front(), self._notes, rate, self._enough)
            for number in range(_CLIENTS)
        ]
        for client in clients:
            client.start()
        plan = (kinds * (blows // len(kinds) + 1))[:blows]
        self._chance.shuffle(plan)
        poisoned = {blows // 3, 2 * blows // 3} if "kill_worker" in {kind.name for kind in kinds} else set()
        for number, kind in enumerate(plan):
            if number in poisoned:
                clients[number % _CLIENTS].poison()
            self._strike(number, kind)
        wait_until(lambda: len(self._notes.promises) >= tasks, "enough tasks are acknowledged", 600)
        self._enough.set()
        for client in clients:
            client.join(120)
            if client.is_alive() or client.failure:
                self._report.wrong.append(f"{client.name} ended with {client.failure!r}")
        self._end()

    def _front(self) -> Front:
        return Front(list(self._cluster.web_ports.values()), self._notes)

    def _strike(self, number: int, kind: Kind) -> None:
        held = self._held() if kind.after == "worker" else {}
        began = time.monotonic()
        did = kind.blow(self._cluster, self._chance)
        over = time.monotonic()
        self._flows()
        recovered = time.monotonic() - over
        self._report.recoveries.setdefault(kind.name, []).append(recovered)
        said = f"{number + 1:>3} {kind.name:<24} {did:<22} {recovered:6.2f} s"
        if kind.name.startswith("kill_") and kind.after == "worker":
            rerun = self._rerun(held, began)
            said += f", tasks run again after {rerun:.2f} s"
            self._report.reruns.append(rerun)
        wait_until(self._cluster.is_well, "all processes are there again", _RECOVERY_SECONDS)
        if wrong := list(invariants.standing(self._cluster)):
            self._report.wrong += [f"after {kind.name}: {one}" for one in wrong]
            said += f" WRONG {wrong}"
        self._report.blows += 1
        self._say(f"{said}  [{len(self._notes.promises)} acknowledged]")
        time.sleep(self._chance.uniform(*_PAUSE))

    def _held(self) -> dict[int, int]:
        """The fences of what all workers hold."""
        return dict(self._cluster.rows("SELECT id, fence FROM tasks WHERE status = 'PROCESSING'"))

    def _rerun(self, held: dict[int, int], began: float) -> float:
        """Seconds until none of these is a lost worker's any more."""

        def all_again() -> bool:
            living = [self._cluster.processes[name].pid for name in WORKERS]
            now = self._cluster.rows(
                "SELECT FROM tasks AS t JOIN workers AS w ON w.id = worker_id"
                " JOIN unnest(%(ids)s::bigint[], %(fences)s::int[]) AS held (task, was) ON task = t.id AND was = fence"
                " WHERE status = 'PROCESSING' AND pid <> ALL (%(living)s)",
                ids=list(held), fences=list(held.values()), living=living,
            )  # fmt: skip
            return not now

        wait_until(all_again, "the tasks of the lost worker run again", _RECOVERY_SECONDS)
        return time.monotonic() - began

    def _flows(self) -> None:
        """Returns when a fresh urgent task has gone all the way."""
        self._probe_number += 1
        tag = f"probe-{self._probe_number}"
        task = {"prompt": tag, "model": "probe", "priority": 10, "timeout_seconds": 8, "max_retries": 20}
        task["retry"] = {"strategy": "fixed", "base_delay": 0.3}
        answer = self._probes.send("POST", "/api/v1/tasks", json=task, headers={"Idempotency-Key": tag})
        assert answer is not None, "no submission was answered for long"
        task_id = answer.json()["id"]

        def is_done() -> bool:
            found = self._probes.send("GET", f"/api/v1/tasks/{task_id}")
            return found is not None and found.json()["status"] == "COMPLETED"

        wait_until(is_done, f"{tag} is done", _RECOVERY_SECONDS)

    def _end(self) -> None:
        report, cluster, notes = self._report, self._cluster, self._notes
        for schedule_id in notes.schedules:
            self._probes.send("PUT", f"/api/v1/scheduler/tasks/{schedule_id}", json=self._inactive(schedule_id))
        open_ones = "SELECT id, status, attempt FROM tasks WHERE completed_at IS NULL"
        try:
            wait_until(lambda: not cluster.rows(open_ones), "every task has ended", _END_SECONDS)
            wait_until(lambda: not invariants.leaks(cluster), "Redis keeps nothing for ever", 30)
        except AssertionError as error:
            left = cluster.rows(open_ones)
            report.wrong.append(f"{error}; open: {left[:5]}, kept in Redis: {invariants.leaks(cluster)[:5]}")
        report.wrong += invariants.at_the_end(cluster, notes)
        report.wrong += notes.wrong
        report.acknowledged = len(notes.promises)
        report.refused = notes.refusals
        self._count_calls()
        self._probes.close()

    def _inactive(self, schedule_id: int) -> dict[str, Any]:
        found = self._probes.send("GET", f"/api/v1/scheduler/tasks/{schedule_id}")
        assert found is not None
        names = ("name", "task_type", "interval", "interval_unit", "params", "overlap_policy", "cron_expression")
        return {**{name: found.json()[name] for name in names}, "is_active": False}

    def _count_calls(self) -> None:
        counts = self._cluster.model.get("/counts").json()
        answered = counts["answered"].values()
        if counts["twice"]:
            self._report.wrong.append(f"asked twice at once: {json.dumps(counts['twice'])[:300]}")
        logs = "".join(self._cluster.text(name) for name in (*WEBS, *WORKERS, *SCHEDULERS))
        self._report.facts |= {
            "model calls begun": sum(counts["begun"].values()),
            "answered": sum(answered),
            "answered more than once": sum(1 for count in answered if count > 1),
            "slowest answer to a client, seconds": round(self._notes.slowest, 2),
            "submissions of unknown fate": self._notes.unanswered,
            "executions": dict(self._cluster.rows("SELECT status, count(*) FROM executions GROUP BY 1")),
            "worker starts": sum(self._cluster.processes[name].starts for name in WORKERS),
            "tracebacks in the logs": _surprises(logs),
        }


def _surprises(logs: str) -> dict[str, int]:
    """The last lines of the tracebacks in a log, with how many there are of each."""
    lines = (json.loads(line) for line in logs.splitlines() if line.startswith("{") and "Traceback" in line)
    return Counter(str(line.get("exception", line)).strip().splitlines()[-1][:120] for line in lines)
