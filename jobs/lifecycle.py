"""The states of a task and the only moves between them. Pure: no I/O, no clock.

    BLOCKED ──▶ PENDING ──▶ PROCESSING ──▶ COMPLETED
       │           ▲  │        │  ▲ │
       │           │  │        ▼  │ └────▶ FAILED
       │           │  │     RETRYING
       └──▶ FAILED │  └──────┬─┴─────────▶ CANCELLED
                   │         │
                   └─ explicit retry of FAILED, CANCELLED; hand-back of PROCESSING

Who moves a task out of a state:

- BLOCKED: the last of its parents to end (children of a failed parent fail).
- PENDING: the worker that claims it, or a cancel.
- PROCESSING: the worker that owns the attempt; a worker that stops hands it back to
  PENDING; when a worker stopped beating, the reconciler does that in its stead.
- RETRYING: like PENDING, once its time has come.
- COMPLETED, FAILED, CANCELLED: final; only an explicit retry leaves the last two (to BLOCKED,
  where they depend on tasks that have not completed).
"""

from enum import StrEnum


class Status(StrEnum):
    BLOCKED = "BLOCKED"
    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    RETRYING = "RETRYING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})
CLAIMABLE = frozenset({Status.PENDING, Status.RETRYING})

TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.BLOCKED: frozenset({Status.PENDING, Status.FAILED, Status.CANCELLED}),
    Status.PENDING: frozenset({Status.PROCESSING, Status.CANCELLED}),
    Status.PROCESSING: frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.RETRYING, Status.PENDING}),
    Status.RETRYING: frozenset({Status.PROCESSING, Status.CANCELLED}),
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset({Status.PENDING, Status.BLOCKED}),
    Status.CANCELLED: frozenset({Status.PENDING, Status.BLOCKED}),
}


def allowed(source: Status, target: Status) -> bool:
    """Whether a task may move from `source` to `target`."""
    return target in TRANSITIONS[source]


def sources(target: Status, among: frozenset[Status] = frozenset(Status)) -> list[str]:
    """The states, out of `among`, from which a task may move to `target`: the guard of an UPDATE."""
    return sorted(status for status in among if allowed(status, target))
