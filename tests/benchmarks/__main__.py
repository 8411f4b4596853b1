"""`make bench`: measures Pressroom and its peers in turn, prints a table and writes it into tests/benchmarks/results/.

`make bench ONLY=llm` (or `ONLY=llm,noop`) measures parts. `ROUNDS=1 SCALE=0.1` is for trying out the benchmark.
"""

import argparse
import importlib
import signal
import sys
import time
import traceback
from pathlib import Path

from tests.benchmarks import report
from tests.benchmarks.bench import Bench, endpoint, say, servers
from tests.benchmarks.machine import machine
from tests.support.instance import fresh_directory

# Each is a module here with a function `measure(bench)`.
PARTS = ("llm", "noop", "submit", "priority", "million", "idle", "growth")
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Measure, and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help=f"parts, comma-separated: {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of tasks")
    chosen = parser.parse_args()
    parts = tuple(part for part in chosen.only.split(",") if part) or PARTS
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    described = machine()
    say(" · ".join(f"{name}: {value}" for name, value in described.items()))
    with (
        fresh_directory(on_disk=True) as directory,
        servers(directory) as (postgres_url, redis_url),
        endpoint() as url,
    ):
        bench = Bench(chosen.rounds, chosen.scale, directory, redis_url, postgres_url, url)
        failed: list[str] = []
        for part in parts:
            began = time.monotonic()
            say(f"{part}:")
            bench.part = part
            try:
                importlib.import_module(f"tests.benchmarks.{part}").measure(bench)
            except Exception:  # noqa: BLE001 - the other parts' figures are still worth having
                failed.append(part)
                traceback.print_exc()
            bench.seconds[part] = time.monotonic() - began
    report.write(bench, described, RESULTS)
    if failed:
        sys.exit(f"failed, so that figures are missing: {', '.join(failed)}")


if __name__ == "__main__":
    main()
