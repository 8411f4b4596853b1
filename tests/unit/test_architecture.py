"""Imports go one way, and each library is at home in few places."""

import ast
import re
from pathlib import Path

import pytest
import rq

ROOT = Path(__file__).parents[2]
ROOMS = {
    "jobs": {"jobs"},
    "scheduler": {"scheduler", "jobs"},
    "api": {"api", "scheduler", "jobs"},
    "cli": {"cli", "jobs"},
}

HOMES = {
    "flask": ["api/"],
    "flask_smorest": ["api/"],
    "psycopg": ["jobs/store/", "jobs/setting_values.py", "deploy/"],
    "psycopg_pool": ["jobs/store/"],
    "rq": ["jobs/queues.py", "jobs/commands.py", "jobs/worker.py", "scheduler/", "api/dashboard.py"],
    "rq_scheduler": ["scheduler/clock.py"],
    "rq_dashboard": ["api/dashboard.py"],
    "redis": ["jobs/queues.py", "jobs/ledger.py", "deploy/embedded.py"],
    "httpx": ["jobs/providers/", "jobs/webhooks/", "jobs/http.py", "cli/client.py", "cli/doctor.py"],
    "click": ["cli/"],
    "dotenv": ["cli/connection.py"],
    "aiohttp": ["jobs/providers/", "jobs/webhooks/"],
    "prometheus_client": ["api/metrics.py", "api/collector.py"],
    "environs": ["jobs/settings.py"],
    "structlog.contextvars": ["api/", "jobs/logs.py"],
}
PURE = ["lifecycle", "priority", "retry", "slots", "errors", "pools", "secrets", "usage"]
IMPURE = {"os", "time", "socket", "random", "asyncio", "logging", "structlog", "pathlib", "threading", "datetime"}

# What the command line's clients of HTTP may have of jobs; its commands for the machine itself may have all.
PURE_FOR_CLIENTS = {"jobs", "jobs.__version__", "jobs.http", "jobs.lifecycle", "jobs.secrets"}
ON_THE_MACHINE = {"cli/doctor.py", "cli/machine.py"}

FILES = [path for room in ("api", "cli", "jobs", "scheduler", "deploy") for path in (ROOT / room).rglob("*.py")]


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    room = name_of(path).split("/")[0]
    ours = {name.split(".")[0] for name in imported(path)} & {"api", "cli", "jobs", "scheduler", "deploy", "tests"}
    assert ours <= ROOMS.get(room, {"api", "cli", "jobs", "scheduler", "deploy"})


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_each_library_stays_at_home(path: Path) -> None:
    for library, homes in HOMES.items():
        if any(name == library or name.startswith(library + ".") for name in imported(path)):
            assert any(name_of(path).startswith(home) for home in homes), f"{name_of(path)} imports {library}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_settings_read_the_environment(path: Path) -> None:
    if name_of(path) in ("jobs/settings.py", "cli/connection.py"):
        return
    used = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
    }
    assert not used & {"environ", "getenv", "putenv"}


@pytest.mark.parametrize("path", [path for path in FILES if name_of(path).startswith("cli/")], ids=name_of)
def test_a_client_knows_nothing_of_the_machine(path: Path) -> None:
    if name_of(path) not in ON_THE_MACHINE:
        ours = {name for name in imported(path) if name.split(".")[0] == "jobs"}
        assert all(".".join(name.split(".")[:2]) in PURE_FOR_CLIENTS for name in ours), ours


@pytest.mark.parametrize("module", PURE)
def test_rules_are_pure(module: str) -> None:
    assert not {name.split(".")[0] for name in imported(ROOT / "jobs" / f"{module}.py")} & IMPURE


def test_rq_is_the_version_whose_insides_were_read() -> None:
    assert rq.VERSION == "3.0.0", (
        "The worker, the job class, the Lua scripts and the dashboard rely on RQ 3.0.0's insides. Before changing "
        "the pin, compare: BaseWorker (__init__, heartbeat, serialize, register_birth and _death, pubsub channel), "
        "Job (fields of its hash, restore), Execution (its hash and keys), StartedJobRegistry and "
        "FailedJobRegistry (key names, members, scores), rq.suspension, and rq.command's payloads."
    )


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_pin_has_hashes_and_names_no_index(name: str) -> None:
    text = (ROOT / name).read_text()
    pins = re.split(r"\n(?=\S)", text.strip())
    assert len(pins) > 50
    for pin in pins:
        assert re.match(r"[a-z0-9-]+==\S+", pin), pin
        assert "--hash=sha256:" in pin, pin
    assert not re.search(r"https?://|--(?:extra-)?index|--find-links", text)


def test_what_is_wanted_is_what_is_pinned() -> None:
    for name in ("requirements", "requirements-dev"):
        wanted = re.findall(r"(?m)^([A-Za-z0-9_-]+)(?:\[.*\])?==(\S+)", (ROOT / f"{name}.in").read_text())
        pinned = set(re.findall(r"(?m)^(\S+)==(\S+)", (ROOT / f"{name}.txt").read_text()))
        missing = {(package.lower().replace("_", "-"), version) for package, version in wanted} - pinned
        assert not missing, f"run `make requirements`: {missing}"
