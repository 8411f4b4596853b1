"""Dramatiq over Redis: processes of threads; no results kept."""

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from tests.benchmarks.peers.driver import answer, options, performed, python
from tests.benchmarks.peers.tally import Tally

_tally = Tally()
_ME = "tests.benchmarks.peers.dramatiq_peer"
_broker = RedisBroker(url=options().redis_url)
dramatiq.set_broker(_broker)


@dramatiq.actor
def noop() -> None:
    """Nothing."""
    _tally.begin()
    _tally.end()


if __name__ == "__main__":
    for _ in range(options()["tasks"]):
        noop.send()
    size = ("--processes", str(options()["processes"]), "--threads", str(options()["slots"]))
    answer(**performed([python("dramatiq", _ME, *size, "--skip-logging")]))
