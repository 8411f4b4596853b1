"""What `make run` says is for people, or JSON line by line."""

import json

import pytest

from deploy.terminal import Terminal


def test_lines_say_whose_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().say("web", "hello password=hunter2hunter2")
    assert capsys.readouterr().out == "web       │ hello password=[redacted]\n"


def test_as_json_every_line_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    terminal.as_json = True
    terminal.say("worker", '{"event":"ready","process":"worker"}')
    terminal.say("redis", "# Server started")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["process"], line["event"]) for line in lines] == [("worker", "ready"), ("redis", "# Server started")]
    assert lines[1]["timestamp"].endswith("Z")
