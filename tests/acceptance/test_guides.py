"""Every command in the README and in docs/ works, and says what is shown there."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.instance import FINAL, ROOT, Instance, clean_environment, free_port, fresh_directory, running
from tests.support.pages import PAGES, Block, blocks, fits
from tests.support.waiting import wait_until

# The last one closes the service to who has no key.
IN_ORDER = sorted(PAGES, key=lambda page: page.stem == "keys")
RUN = {page: [block for block in blocks(page) if block.language == "sh" and not block.reason] for page in PAGES}
RECEIVER = free_port()
# Goes on while its page is read.
BESIDE = "python receiver.py"
KEPT = {"schema_migrations", "workers", "schedules", "secrets"}
# What may be asked again until the answer is there; all else is done once.
LOOKS = re.compile(r"curl (?!-X)(?:-[sN]+ )?\S*http\S+$|\S*pressroom (?:get|list|contents|schedules|stats)\b.*$")


def with_ports(text: str, port: int) -> str:
    """With ports that are free in place of those in the pages."""
    return text.replace("127.0.0.1:8000", f"127.0.0.1:{port}").replace("9000", str(RECEIVER))


def is_open(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Reader:
    """Somebody who types what the pages say, in a checkout of their own beside a running instance."""

    def __init__(self, checkout: Path, instance: Instance) -> None:
        self._checkout = checkout
        self._instance = instance
        self._beside: list[subprocess.Popen[bytes]] = []
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
        if BESIDE in block.text:
            command = [sys.executable, *BESIDE.split()[1:]]
            self._beside.append(subprocess.Popen(command, cwd=self._checkout, stdout=subprocess.DEVNULL))
            wait_until(lambda: is_open(RECEIVER), "it listens")
            return
        is_look = block.shown and all(LOOKS.match(line) for line in block.text.strip().splitlines())
        try:
            wait_until(lambda: self._fits(block), "the answer", 20 if is_look else 0)
        except AssertionError:
            raise AssertionError(f"line {block.line}: {block.text}{self._last}\nShown is: {block.shown}") from None

    def _fits(self, block: Block) -> bool:
        script = with_ports(block.text, self._instance.port).replace(".venv/bin/", "")
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", script], cwd=self._checkout, env=self._environment,
            capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        self._last = f"exit code {done.returncode}\n{done.stderr}\n{done.stdout}"
        refused = [code for code in re.findall(r"status (\d+)", done.stderr) if not code.startswith("2")]
        is_told = all(f'"code": {code}' in (block.shown or "") for code in refused)
        return not done.returncode and is_told and (block.shown is None or fits(block, done.stdout))

    def end(self) -> None:
        """Stop what is left of a page."""
        for process in self._beside:
            process.terminate()
            process.wait(10)
        self._beside.clear()

    def begin(self) -> None:
        """As on a fresh start: ids begin at 1 again."""
        wait_until(self._is_quiet, "no task moves but those that wait for their time")
        with psycopg.connect(self._instance.database_url) as connection:
            connection.execute("SET session_replication_role = replica")  # in whatever order
            for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall():
                if name not in KEPT:
                    connection.execute(f'DELETE FROM "{name}"')
            connection.execute("DELETE FROM schedules WHERE builtin IS NULL")
            connection.execute(
                "SELECT setval(sequencename::regclass, CASE sequencename WHEN 'schedules_id_seq' THEN 3 ELSE 1 END,"
                " false)"
                " FROM pg_sequences WHERE schemaname = 'public' AND sequencename <> 'workers_id_seq'"
            )
        redis = self._instance.redis
        for key in redis.scan_iter("pressroom:text:*"):
            redis.delete(key)
        redis.close()

    def _is_quiet(self) -> bool:
        with psycopg.connect(self._instance.database_url) as connection:
            query = "SELECT count(*) FROM tasks WHERE status <> ALL (%s) AND due_at IS NULL"
            return connection.execute(query, [list(FINAL)]).fetchone() == (0,)


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    """With the files that the pages have, and an instance that is set as they say."""
    port = free_port()
    with fresh_directory(on_disk=True) as checkout:
        for path in ROOT.iterdir():
            if path.name not in ("data", ".env") and not path.name.startswith("."):
                (checkout / path.name).symlink_to(path)
        for page in PAGES:
            for block in blocks(page):
                if block.file:
                    (checkout / block.file).write_text(with_ports(block.text, port))
        settings = {"HANDLER_MODULES": "own_tasks", "PYTHONPATH": checkout, "CALLBACK_ALLOWED_NETWORKS": "127.0.0.0/8"}
        with running(checkout / "data", PORT=port, RECONCILE_SECONDS=1, **settings) as instance:
            yield Reader(checkout, instance)


@pytest.mark.parametrize("page", [page for page in IN_ORDER if RUN[page]], ids=lambda page: page.stem)
def test_a_page_does_what_it_says(reader: Reader, page: Path) -> None:
    reader.begin()
    try:
        for block in RUN[page]:
            reader.run(block)
    finally:
        reader.end()
