"""The command line against a running instance."""

import os
import pty
import subprocess
from pathlib import Path

import orjson
import pytest

from tests.acceptance.conftest import Setup
from tests.support.calling import lines_of
from tests.support.instance import ROOT, Instance, clean_environment
from tests.support.model_server import Behaviour
from tests.support.waiting import wait_until

COMMAND = ROOT / "deploy" / "pressroom"
PROMPTS = 2000


def environment(instance: Instance, **more: str) -> dict[str, str]:
    url = f"http://127.0.0.1:{instance.port}"
    return clean_environment(PRESSROOM_URL=url, PRESSROOM_MODEL="m", DATA_DIR=instance.data_dir, **more)


def call(instance: Instance, place: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments], cwd=place, env=environment(instance, **more), capture_output=True, timeout=120,
        encoding="utf-8",
    )  # fmt: skip


def test_an_answer_is_shown_while_it_is_generated(setup: Setup, place: Path) -> None:
    setup.model.answer = "".join(f"词{number} " for number in range(40))
    setup.model.usual = Behaviour(pause=0.05)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [COMMAND, "submit", "--wait", "你好"], cwd=place, env=environment(setup.instance), stdin=theirs, stdout=theirs,
        stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        os.close(theirs)
        shown = b""
        while "词1".encode() not in shown:
            shown += os.read(ours, 1000)
        assert process.poll() is None
        assert int(setup.instance.http.get("/api/v1/tasks?status=PROCESSING").headers["X-Total-Count"]) == 1
        while "词39".encode() not in shown:
            shown += os.read(ours, 1000)
        assert process.wait(30) == 0
    os.close(ours)


def test_a_pipe_gets_the_answer_alone(setup: Setup, place: Path) -> None:
    setup.model.answer = "世界"
    done = call(setup.instance, place, "submit", "--wait", "你好", LC_ALL="en_US.ISO-8859-1")
    assert (done.returncode, done.stdout) == (0, "世界\n")


@pytest.mark.parametrize("how", ["kill", "interrupt"])
def test_a_batch_that_was_interrupted_goes_on(setup: Setup, place: Path, how: str) -> None:
    instance = setup.instance
    file, out = place / "in.jsonl", place / f"{how}.jsonl"
    tasks = [{"prompt": f"{how} 第 {number}", "metadata": {"n": number}} for number in range(PROMPTS)]
    file.write_bytes(b"".join(orjson.dumps(task) + b"\n" for task in tasks))
    before = int(instance.http.get("/api/v1/tasks?limit=1").headers["X-Total-Count"])
    command = [str(COMMAND), "batch", str(file), "-o", str(out)]
    with subprocess.Popen(command, cwd=place, env=environment(instance), stderr=subprocess.PIPE) as first:
        wait_until(lambda: out.exists() and len(out.read_bytes()) > 0, "some answers", 60)
        if how == "kill":
            first.kill()
        else:
            first.send_signal(2)
        _, said = first.communicate()
    written = len(lines_of(out)) if out.read_bytes().endswith(b"\n") else 0
    if how == "interrupt":
        assert first.returncode == 130
        assert "the same command goes on" in said.decode()
    assert written < PROMPTS
    with out.open("ab") as torn:
        torn.write(b'{"line": 1, "i')

    done = call(instance, place, "batch", str(file), "-o", str(out), "--json")
    assert done.returncode == 0, done.stderr
    lines = lines_of(out)
    assert [line["metadata"]["n"] for line in lines] == list(range(PROMPTS))
    assert len({line["id"] for line in lines}) == PROMPTS
    assert {line["status"] for line in lines} == {"COMPLETED"}
    assert int(instance.http.get("/api/v1/tasks?limit=1").headers["X-Total-Count"]) == before + PROMPTS


def test_the_machine_itself(setup: Setup, place: Path) -> None:
    instance = setup.instance
    made = call(instance, place, "backup", BACKUP_DIR=str(place / "dumps"))
    assert made.returncode == 0, made.stderr
    assert Path(made.stdout.strip()).is_file()
    refused = call(instance, place, "restore", made.stdout.strip())
    assert refused.returncode == 1
    assert "not empty" in refused.stderr
    found = call(instance, place, "doctor", "--json", BACKUP_DIR=str(place / "dumps"))
    checks = {check["name"]: check["state"] for check in orjson.loads(found.stdout)}
    assert checks["service"] == checks["database"] == checks["Redis"] == checks["backups"] == "ok", found.stdout
    assert found.returncode == 0


def test_a_doctor_names_what_is_wrong(place: Path) -> None:
    wrong = clean_environment(
        PORT=1, DATABASE_URL="postgresql://u:hunter22222@127.0.0.1:1/x", REDIS_URL="redis://127.0.0.1:1"
    )
    done = subprocess.run([COMMAND, "doctor"], cwd=place, env=wrong, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    for name in ("service", "database", "Redis"):
        assert f"PROBLEM  {name}: " in done.stdout
    assert "hunter" not in done.stdout + done.stderr
