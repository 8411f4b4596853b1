"""Log lines are readable by machines and people, and hold no secrets."""

import json
import logging
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
    yield
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
