"""The short form of the gauntlet: `make gauntlet` is the long one."""

import sys
from pathlib import Path

from tests.gauntlet.run import run

_BLOWS = [
    "kill_web", "kill_worker", "kill_member", "kill_scheduler", "kill_at_commit", "kill_postgres",
    "kill_and_empty_redis", "part_worker", "cut_postgres", "fill_disk_of_postgres", "endpoint_misbehaves",
    "restart_all",
]  # fmt: skip


def test_nothing_is_lost_and_nothing_is_done_twice(place: Path) -> None:
    report = run(place, 1, tasks=200, blows=len(_BLOWS), say=lambda text: print(text, file=sys.stderr), only=_BLOWS)
    assert not report.wrong, report.as_text()
    assert report.acknowledged >= 200
    assert set(report.recoveries) == set(_BLOWS)
