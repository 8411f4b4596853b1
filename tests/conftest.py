"""Fixtures shared by all tests."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from jobs import secrets
from tests.support.instance import fresh_directory
from tests.support.model_server import ModelServer
from tests.support.servers import Servers, serving

# The suite tries the same few examples each time; `pytest --hypothesis-profile long` looks for new ones.
settings.register_profile("suite", max_examples=100, derandomize=True, deadline=None, database=None)
settings.register_profile("long", max_examples=10_000, deadline=None, database=None)
settings.load_profile("suite")

_OURS = tuple(re.findall(r"^# ?([A-Z_]+)=", (Path(__file__).parents[1] / ".env.example").read_text(), re.MULTILINE))
_GIVEN = {name: os.environ.get(name, "") for name in ("DATABASE_URL", "REDIS_URL")}


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine reaches a test, nor does a .env file, nor what another test kept secret."""
    vars(secrets._redactor).update(vars(secrets.Redactor()))
    for name in _OURS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """PostgreSQL and Redis for the whole session, in a directory of its own."""
    with fresh_directory() as directory, serving(directory, _GIVEN["DATABASE_URL"], _GIVEN["REDIS_URL"]) as started:
        yield started


@pytest.fixture
def database_url(servers: Servers) -> Iterator[str]:
    """A migrated database of the test's own."""
    with servers.database() as url:
        yield url


@pytest.fixture
def redis_url(servers: Servers) -> Iterator[str]:
    """An empty Redis database."""
    with servers.redis() as url:
        yield url


@pytest.fixture
def model_server() -> Iterator[tuple[ModelServer, str]]:
    """A model endpoint and its base URL."""
    server = ModelServer()
    with server.serving() as url:
        yield server, url
