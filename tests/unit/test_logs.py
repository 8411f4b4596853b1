"""Log lines are readable by machines and people, and hold no secrets."""

import asyncio
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from jobs import logs, settings

SECRET = "sk-verysecretvalue"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    yield
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    logging.captureWarnings(False)
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def configure(log_format: str, log_dir: Path | None = None) -> None:
    loaded = replace(settings.load(), llm_api_key=SECRET, log_format=log_format, log_dir=log_dir)  # type: ignore[arg-type]
    logs.configure(loaded, "worker")


def say_things() -> None:
    log = structlog.get_logger("test")
    log.info("hello", task_id=5, note=f"key {SECRET}", url="redis://u:hunter22222@h/0", nothing=None)
    logging.getLogger("library").warning("their %s", f"token {SECRET}")
    try:
        raise ValueError(f"inside {SECRET}")
    except ValueError:
        log.exception("failed")


def test_json_has_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json")
    say_things()
    output = capsys.readouterr().out
    lines = [json.loads(line) for line in output.splitlines()]
    assert [line["event"] for line in lines] == ["hello", "their token [redacted]", "failed"]
    assert lines[0]["task_id"] == 5
    assert lines[0]["level"] == "info"
    assert "ValueError" in lines[2]["exception"]
    assert SECRET not in output
    assert "hunter2" not in output


def test_what_lines_are_about_stands_on_those_of_libraries_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json")
    with logs.about(task_id=7):
        logging.getLogger("library").warning("theirs")
    structlog.get_logger("test").info("ours")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["event"], line["process"], line.get("task_id")) for line in lines] == [
        ("theirs", "worker", 7), ("ours", "worker", None)
    ]  # fmt: skip


def test_a_line_that_is_hard_to_write_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json")
    structlog.get_logger("test").info("half \ud800", number=2**70)
    (line,) = capsys.readouterr().out.splitlines()
    assert {**json.loads(line), "timestamp": ""} == {
        "event": "half \ud800", "number": 2**70, "level": "info", "timestamp": "", "process": "worker"
    }  # fmt: skip


def test_signs_of_formats_in_a_line_stay(capsys: pytest.CaptureFixture[str]) -> None:
    configure("text")
    structlog.get_logger("test").info("100 %s of %d", share="5%")
    assert "INFO    100 %s of %d share=5%" in capsys.readouterr().out


def test_text_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure("text")
    say_things()
    output = capsys.readouterr().out
    assert "INFO    hello task_id=5" in output
    assert "nothing" not in output
    assert "Traceback" in output
    assert SECRET not in output
    assert "hunter2" not in output


def test_files_are_written_where_asked(tmp_path: Path) -> None:
    configure("json", tmp_path / "logs")
    say_things()
    assert len((tmp_path / "logs" / "worker.log").read_text().splitlines()) == 3


def test_several_processes_move_a_full_file_on_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_FILE_BYTES", 2000)
    monkeypatch.setattr(logs, "_FILES_KEPT", 100)
    handlers = []
    for _ in range(3):
        configure("json", tmp_path)
        handlers.append(logging.getLogger().handlers[1])
    for number in range(300):
        handlers[number % 3].handle(logging.makeLogRecord({"msg": f"line {number}", "levelname": "INFO"}))
    for handler in handlers:
        handler.close()
    files = [path for path in tmp_path.iterdir() if path.suffix != ".lock"]
    said = [json.loads(line)["event"] for path in files for line in path.read_text().splitlines()]
    assert sorted(said) == sorted(f"line {number}" for number in range(300))
    assert sum(path.stat().st_size < 1500 for path in files) <= 1, "only the newest is not full"


def test_secrets_are_hidden_wherever_they_hide(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json")
    log, library = structlog.get_logger("test"), logging.getLogger("library")
    held = {"deep": [{"headers": (b"Authorization", f"Bearer {SECRET}".encode())}], "error": ValueError(SECRET)}
    log.warning("held", held=held, password="hunter2hunter2")
    library.warning("%s and %r", held, [SECRET], extra={"more": SECRET})
    warnings.showwarning(f"of {SECRET}", UserWarning, "module.py", 1)
    try:
        try:
            raise ValueError(f"first {SECRET}")
        except ValueError as first:
            first.add_note(f"noted {SECRET}")
            raise RuntimeError(f"second {SECRET}") from first
    except RuntimeError as second:
        log.exception("chained", stack_info=True)
        library.exception("chained %s", SECRET)
        sys.excepthook(RuntimeError, second, second.__traceback__)
    thread = threading.Thread(target=lambda: held[SECRET], name="one")
    thread.start()
    thread.join()

    async def forgotten() -> None:
        raise ValueError(f"in a task {SECRET}")

    async def forget() -> None:
        task = asyncio.create_task(forgotten())
        await asyncio.wait([task])
        del task

    asyncio.run(forget())
    output = capsys.readouterr()
    assert SECRET not in output.out
    assert "hunter2" not in output.out
    assert not output.err
    said = [json.loads(line)["event"] for line in output.out.splitlines()]
    assert said[0] == "held"
    assert {"chained", "uncaught exception", "uncaught exception in a thread"} <= set(said)
    assert any("Task exception was never retrieved" in line for line in said)
    assert any("UserWarning" in line for line in said)
    assert "noted [redacted]" in output.out


def test_alike_lines_stay_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json")
    texts = [
        f'password="{SECRET}"',
        f"Authorization: Bearer {SECRET}\nCookie: a=b",
        repr({"token": SECRET}),
        '\\"key=x\\',
    ]
    for text in texts:
        structlog.get_logger("test").info(text, note=text, authorization=text)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == len(texts)
    assert {line["level"] for line in lines} == {"info"}
