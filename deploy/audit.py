"""`make lint`: does any pinned dependency have a known vulnerability? Asks the advisory service of the package index.

A finding fails. That nobody can be asked (no network, an index without advisories) is said in one line, and fails
nothing.
"""

import subprocess
import sys
from typing import Any

import orjson

ACCEPTED: dict[str, str] = {}
"""Advisory -> why it does not concern us. A fixed version is always the better answer."""

_COMMAND = (
    "-m", "pip_audit", "--requirement", "requirements-dev.txt", "--disable-pip", "--require-hashes",
    "--format", "json", "--progress-spinner", "off", "--timeout", "10",
)  # fmt: skip
_SECONDS = 180


def main() -> int:
    """1 when there is a finding that is not accepted."""
    ignored = [part for advisory in ACCEPTED for part in ("--ignore-vuln", advisory)]
    try:
        asked = subprocess.run(
            [sys.executable, *_COMMAND, *ignored], check=False, capture_output=True, timeout=_SECONDS
        )
        packages: list[dict[str, Any]] = orjson.loads(asked.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, orjson.JSONDecodeError):
        packages = []
    known = [package for package in packages if "skip_reason" not in package]
    for package in known:
        for found in package["vulns"]:
            fixed = ", ".join(found["fix_versions"]) or "no version"
            sys.stderr.write(f"audit: {package['name']} {package['version']}: {found['id']}, fixed in {fixed}\n")
    if not known:
        sys.stderr.write("audit: NOT DONE: no advisory service can be reached from here\n")
    elif missing := [package["name"] for package in packages if package not in known]:
        sys.stderr.write(f"audit: nothing is known of {', '.join(missing)}\n")
    return any(package["vulns"] for package in known)


if __name__ == "__main__":
    raise SystemExit(main())
