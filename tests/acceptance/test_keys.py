"""Keys are made and revoked while the service runs, and it heeds that within seconds, without a restart."""

import subprocess
import sys
from pathlib import Path

from tests.support.instance import ROOT, clean_environment, running
from tests.support.waiting import wait_until


def test_the_first_key_closes_a_running_service_for_good(data_dir: Path) -> None:
    def keys(*arguments: str) -> str:
        # Only DATA_DIR is named: the embedded database is found where `make run` has it.
        return subprocess.run(
            [sys.executable, "-m", "jobs.keys", *arguments],
            cwd=ROOT, env=clean_environment(DATA_DIR=data_dir), capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip

    with running(data_dir, WEB_CONCURRENCY=2) as instance:
        http = instance.http
        assert http.get("/api/v1/tasks").status_code == 200
        key = {"Authorization": f"Bearer {keys('make', 'ci', '--scope', 'submit')}"}
        task = {"prompt": "x", "model": "m"}
        assert http.post("/api/v1/tasks", json=task, headers=key).status_code == 201
        wait_until(
            lambda: {http.get("/api/v1/tasks").status_code for _ in range(8)} == {401}, "all processes are closed"
        )
        keys("revoke", "ci")
        wait_until(
            lambda: {http.get("/api/v1/tasks", headers=key).status_code for _ in range(8)} == {401}, "the key has ended"
        )
        assert http.get("/api/v1/tasks").status_code == 401
        assert instance.log().count("Traceback") == 0
        assert key["Authorization"].split("_")[2] not in instance.log()
