"""The Procfile's lines, started with no more variables than a platform like Heroku sets."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import yaml

from tests.support.instance import ROOT, clean_environment, free_port
from tests.support.servers import Servers
from tests.support.waiting import wait_until

LINES: dict[str, str] = yaml.safe_load((ROOT / "Procfile").read_text())
SECRET = "platform-secret-0123456789"


@contextmanager
def started(kind: str, log: Path, **platform: object) -> Iterator["subprocess.Popen[bytes]"]:
    """A line of the Procfile; at the end it gets SIGTERM, and must end well within the platform's 30 seconds."""
    environment = clean_environment(DYNO=f"{kind}.1", **platform)
    environment["PATH"] = f"{ROOT / '.venv/bin'}:{environment['PATH']}"
    with (log / f"{kind}.log").open("wb") as output:
        process = subprocess.Popen(["sh", "-c", f"exec {LINES[kind]}"], cwd=ROOT, env=environment, stdout=output)
    try:
        yield process
    finally:
        process.terminate()
        try:
            code = process.wait(28)
        finally:
            process.kill()
    assert code == 0, (log / f"{kind}.log").read_text()


def test_a_platform_runs_it(servers: Servers, redis_url: str, tmp_path: Path) -> None:
    with servers.database("template0") as url:
        platform = {"DATABASE_URL": url, "REDIS_URL": redis_url, "PORT": free_port(), "WEB_CONCURRENCY": 1}
        with started("release", tmp_path, **platform) as release:
            assert release.wait(30) == 0
        # What somebody configured there.
        platform["API_KEYS"] = f"first:{SECRET}:admin"
        client = httpx.Client(
            base_url=f"http://127.0.0.1:{platform['PORT']}", headers={"Authorization": f"Bearer {SECRET}"}
        )
        with (
            client,
            started("web", tmp_path, **platform),
            started("worker", tmp_path, **platform),
            started("scheduler", tmp_path, **platform),
        ):

            def is_ready() -> bool:
                try:
                    told = client.get("/health").json()
                except httpx.TransportError:
                    return False
                return bool(told["status"] == "healthy" and told["workers"])

            wait_until(is_ready, "all is there", 60)
            assert httpx.get(f"{client.base_url}/api/v1/tasks").status_code == 401, "in production nothing is open"
            answer = client.post("/api/v1/tasks", json={"prompt": "hello", "model": "m"})
            where = answer.headers["Location"]
            wait_until(lambda: client.get(where).json()["status"] == "COMPLETED", "the task is done")
    for kind in LINES:
        assert all(line.startswith(b"{") for line in (tmp_path / f"{kind}.log").read_bytes().splitlines()), kind


def test_nothing_is_open_to_the_world_without_a_key(servers: Servers, redis_url: str) -> None:
    with servers.database() as url:
        environment = clean_environment(DYNO="web.1", DATABASE_URL=url, REDIS_URL=redis_url, PORT=free_port())
        environment["PATH"] = f"{ROOT / '.venv/bin'}:{environment['PATH']}"
        run = subprocess.run(
            ["sh", "-c", f"exec {LINES['web']}"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30,
            check=False,
        )  # fmt: skip
    assert run.returncode == 2
    assert "API_KEYS" in run.stderr
