"""Every command in the README and in docs/ works, and says what is shown there."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.instance import FINAL, ROOT, Instance, clean_environment, fresh_directory, running
from tests.support.pages import PAGES, Block, blocks, fits
from tests.support.waiting import wait_until

RUN = {page: [block for block in blocks(page) if block.language == "sh" and not block.reason] for page in PAGES}
KEPT = {"schema_migrations", "workers", "schedules", "secrets"}
# What may be asked again until the answer is there; all else is done once.
LOOKS = re.compile(r"curl (?!-X)(?:-[sN]+ )?\S*http\S+$|\S*pressroom (?:get|list|contents|schedules|stats)\b.*$")


class Reader:
    """Somebody who types what the pages say, in a checkout of their own beside a running instance."""

    def __init__(self, checkout: Path, instance: Instance) -> None:
        self._checkout = checkout
        self._instance = instance
        (checkout / ".curlrc").write_text('silent\nshow-error\nwrite-out = "%{stderr}status %{http_code}\\n"\n')
        programs = checkout / "programs"
        programs.mkdir()
        (programs / "pressroom").symlink_to(ROOT / "deploy" / "pressroom")
        # No `make` installs anything here.
        python = Path(sys.executable).parent
        (programs / "make").write_text(f'#!/bin/sh\nexec {shutil.which("make")} -o .venv/.run BIN={python} "$@"\n')
        (programs / "make").chmod(0o755)
        self._environment = clean_environment(
            PORT=instance.port, CURL_HOME=checkout, LANG="C.UTF-8",
            PATH=f"{programs}:{python}:{os.environ['PATH']}",
        )  # fmt: skip

    def run(self, block: Block) -> None:
        """Do what a block says; as often as it takes, where it only looks."""
        if block.shown and all(LOOKS.match(line) for line in block.text.strip().splitlines()):
            wait_until(lambda: self._fits(block), f"line {block.line} answers:\n{block.shown}")
        elif not self._fits(block):
            raise AssertionError(f"line {block.line}: {block.text}{self.last}\nbut shown is\n{block.shown}")

    def _fits(self, block: Block) -> bool:
        script = block.text.replace("127.0.0.1:8000", f"127.0.0.1:{self._instance.port}").replace(".venv/bin/", "")
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", script], cwd=self._checkout, env=self._environment,
            capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        self.last = f"exit code {done.returncode}\n{done.stderr}\n{done.stdout}"
        refused = [int(code) for code in re.findall(r"status (\d+)", done.stderr) if not code.startswith("2")]
        if done.returncode or not all(f'"code": {code}' in (block.shown or "") for code in refused):
            raise AssertionError(f"line {block.line}: {block.text}{self.last}")
        return block.shown is None or fits(block.shown, done.stdout)

    def begin(self) -> None:
        """As on a fresh start: ids begin at 1 again."""
        wait_until(self._is_quiet, "no task moves")
        with psycopg.connect(self._instance.database_url) as connection:
            connection.execute("SET session_replication_role = replica")  # in whatever order
            for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall():
                if name not in KEPT:
                    connection.execute(f'DELETE FROM "{name}"')
            connection.execute("DELETE FROM schedules WHERE builtin IS NULL")
            connection.execute(
                "SELECT setval(format('%I', sequencename)::regclass, CASE sequencename WHEN 'schedules_id_seq' THEN 3 ELSE 1 END, false)"
                " FROM pg_sequences WHERE schemaname = 'public' AND sequencename <> 'workers_id_seq'"
            )
        redis = self._instance.redis
        for key in redis.scan_iter("pressroom:text:*"):
            redis.delete(key)
        redis.close()

    def _is_quiet(self) -> bool:
        with psycopg.connect(self._instance.database_url) as connection:
            query = "SELECT count(*) FROM tasks WHERE status <> ALL (%s)"
            return connection.execute(query, [list(FINAL)]).fetchone() == (0,)


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    """With the files that the pages have, and an instance that is set as they say."""
    with fresh_directory() as checkout:
        for path in ROOT.iterdir():
            if path.name not in ("data", ".env") and not path.name.startswith("."):
                (checkout / path.name).symlink_to(path)
        for page in PAGES:
            for block in blocks(page):
                if block.file:
                    (checkout / block.file).write_text(block.text)
        settings = {"HANDLER_MODULES": "own_tasks", "PYTHONPATH": checkout, "RECONCILE_SECONDS": 1}
        with running(checkout / "data", **settings) as instance:
            yield Reader(checkout, instance)


@pytest.mark.parametrize("page", [page for page in PAGES if RUN[page]], ids=lambda page: page.stem)
def test_a_page_does_what_it_says(reader: Reader, page: Path) -> None:
    reader.begin()
    for block in RUN[page]:
        reader.run(block)
