"""How long a `high` task takes to start while 10,000 `low` ones wait and hold all slots that they may."""

import random
import statistics
import time
from functools import partial

from tests.benchmarks.bench import Bench, Contestant, Measured
from tests.benchmarks.pressroom import pressroom
from tests.support.waiting import wait_until

_BACKLOG = 10_000
_CELERY_BACKLOG = 2_000  # it is slow to submit; its lists for each priority make the rest equal
_SAMPLES = 100
_SHORT = 0.02
_SHARES = "high=1.0,default=0.9,low=0.7"  # as they are by default
_ALL = "high=1.0,default=1.0,low=1.0"
_STARTED = """
SELECT 1000 * extract(epoch FROM started_at - created_at)::float8,
       1000 * ((result ->> 'at')::float8 - extract(epoch FROM created_at)::float8)
FROM tasks WHERE task_type = 'bench_began' AND status = 'COMPLETED' AND id <> %s
"""


def measure(bench: Bench) -> None:
    """Compare them all. Peers' workers have no slots to spare: behind tasks of 10 s they would wait for one to end."""
    long, short = f"high behind {_BACKLOG:,} low of 10 s", f"high behind {_BACKLOG:,} low of 20 ms"
    rq = {"processes": 2, "samples": _SAMPLES, "backlog": _BACKLOG, "seconds": _SHORT}
    celery = {"pool": "prefork", "slots": 2, "samples": _SAMPLES, "backlog": _CELERY_BACKLOG, "seconds": _SHORT}
    bench.compare(
        [
            Contestant(long, "Pressroom", partial(_pressroom, bench, 10.0)),
            Contestant(short, "Pressroom, 2 slots", partial(_pressroom, bench, _SHORT)),
            Contestant(short, "RQ, 2 SimpleWorkers", partial(bench.peer, "rq_peer", "priority", **rq)),
            Contestant(short, "Celery, prefork 2", partial(bench.peer, "celery_peer", "priority", **celery)),
        ]
    )


def _pressroom(bench: Bench, seconds: float) -> Measured:
    # Like the peers, whose processes are all at work on the backlog, with two slots it keeps none for urgent tasks.
    slots, shares = (100, _SHARES) if seconds > 1 else (2, _ALL)
    with pressroom(bench, WORKER_CONCURRENCY=slots, QUEUE_SHARES=shares) as started:
        started.suspend()
        started.submit(_BACKLOG, task_type="bench_nap", input={"seconds": seconds}, priority=1)
        started.resume()
        instance = started.instance
        instance.running(int(0.7 * slots) if seconds > 1 else slots)
        submit = partial(instance.submit, task_type="bench_began", input={}, priority=10)
        first = int(submit()["id"])
        instance.ended(first)
        for _ in range(bench.count(_SAMPLES, 50)):
            submit()
            time.sleep(random.uniform(0.005, 0.025))
        queue = "SELECT count(*) FROM tasks WHERE task_type = 'bench_began' AND completed_at IS NULL"
        wait_until(lambda: started.one(queue) == 0, "all urgent tasks have ended", 60)
        rows = started.database.execute(_STARTED, (first,)).fetchall()
        started.suspend()
        instance.http.post("/api/v1/batches/1/cancel")
    claimed, begun = (statistics.quantiles(column, n=100) for column in zip(*rows, strict=True))
    return {
        "submit to start, median [ms]": begun[49],
        "submit to start, p99 [ms]": begun[98],
        "submit to claim, median [ms]": claimed[49],
        "submit to claim, p99 [ms]": claimed[98],
    }
