"""What the figures were measured on."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from jobs import __version__
from jobs.bundled import postgres_programs, redis_server
from tests.support.instance import ROOT


def machine() -> dict[str, str]:
    """CPU, cores, memory, versions, and how busy it was before we began."""
    programs, redis_program = postgres_programs(), redis_server()
    return {
        "time": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "CPU": _cpu(),
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GB",
        "load at start": ", ".join(f"{load:.1f}" for load in os.getloadavg()),
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "PostgreSQL": _says(programs / "postgres" if programs else None),
        "Redis": _says(redis_program),
        "Pressroom": f"{__version__} {_commit()}".strip(),
        "libraries": ", ".join(f"{name} {version(name)}" for name in ("rq", "psycopg", "httpx", "aiohttp", "uvloop")),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _says(program: Path | None) -> str:
    """Its version, of the words it says."""
    if program is None:
        return "not installed"
    words = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=False).stdout.split()
    numbers = [word.removeprefix("v=") for word in words if word.removeprefix("v=")[:1].isdigit()]
    return numbers[0] if numbers else "unknown"


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()
