"""Instances and model endpoints for acceptance tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.instance import Instance, fresh_directory, running
from tests.support.model_server import Behaviour, ModelServer

KEY = "sk-acceptance-0123456789"


class Setup:
    """An instance and the endpoint it calls."""

    def __init__(self, instance: Instance, model: ModelServer) -> None:
        self.instance = instance
        self.model = model


@pytest.fixture(scope="module")
def _started() -> Iterator[Setup]:
    model = ModelServer()
    with (
        fresh_directory() as directory,
        model.serving() as url,
        running(directory, LLM_BASE_URL=url, LLM_API_KEY=KEY, WORKER_CONCURRENCY=20) as up,
    ):
        yield Setup(up, model)


@pytest.fixture
def setup(_started: Setup) -> Iterator[Setup]:
    """A running instance that the module's tests share, its endpoint behaving well."""
    _started.model.usual = Behaviour()
    _started.model.answer = None
    _started.model.script.clear()
    _started.model.calls.clear()
    _started.model.most_in_flight = _started.model.abandoned = 0
    yield _started
    _started.model.usual = Behaviour()


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory for instances. Not pytest's own: another run beside this one would lock root's PostgreSQL out."""
    with fresh_directory() as directory:
        yield directory


@pytest.fixture
def data_dir(place: Path) -> Path:
    """For an instance of the test's own."""
    return place / "data"
