"""`make gauntlet`: one run, reported as it goes; exit code 1 when a promise was broken."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.gauntlet.blows import KINDS
from tests.gauntlet.run import run


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m tests.gauntlet", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the same blows fall in the same order")
    parser.add_argument("--tasks", type=int, default=2000, help="at least so many are acknowledged")
    parser.add_argument("--blows", type=int, default=42)
    parser.add_argument("--only", nargs="*", default=(), choices=[kind.name for kind in KINDS], metavar="KIND")
    chosen = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="pressroom-gauntlet-"))
    sys.stdout.write(f"logs and data are in {place}\n")

    def say(text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    report = run(place, chosen.seed, chosen.tasks, chosen.blows, say, chosen.only)
    say(report.as_text())
    return 1 if report.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
