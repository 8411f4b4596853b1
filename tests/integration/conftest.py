"""The web app in this process, on real PostgreSQL and Redis."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

from api import create_app
from jobs import access, settings
from jobs.queues import Doorbell, connect
from jobs.settings import Settings
from jobs.store.database import Database
from tests.support.access import Line
from tests.support.closing import close


@pytest.fixture
def configured(database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    return replace(settings.load(), database_url=database_url, redis_url=redis_url)


@pytest.fixture
def app(configured: Settings) -> Iterator[Flask]:
    made = create_app(configured)
    with made.app_context():
        yield made
    close(made)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def database(configured: Settings) -> Iterator[Database]:
    opened = Database(configured.database_url, max_size=4)
    opened.open()
    yield opened
    opened.close()


@pytest.fixture
def doorbell(configured: Settings) -> Iterator[Doorbell]:
    bell = Doorbell(connect(configured.redis_url))
    yield bell
    bell.connection.close()


@pytest.fixture
def redis_client(configured: Settings) -> Iterator["redis.Redis"]:
    client = redis.Redis.from_url(configured.redis_url, decode_responses=True)
    yield client
    client.close()


@pytest.fixture
def line(configured: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Line:
    """The command line for keys; web apps see what it does at the next request."""
    monkeypatch.setattr(access, "_FRESH_SECONDS", 0.0)
    monkeypatch.setattr(access, "_AGAIN_SECONDS", 0.0)
    made = Line(configured, capsys)
    monkeypatch.setattr("jobs.keys.settings.load_or_exit", lambda: made.configured)
    return made
