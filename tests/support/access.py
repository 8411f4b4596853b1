"""The command line for keys, browsers with a session, and what the audit says."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api import create_app, services
from jobs import keys
from jobs.setting_values import ApiKey
from jobs.settings import Settings
from jobs.store.database import Database

OWN = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
GIVEN = ApiKey("console", "console-secret-0123456", "admin")
AWAY = "postgresql://127.0.0.1:1/x"


class Line:
    """The command line, on the test's database."""

    def __init__(self, configured: Settings, capsys: pytest.CaptureFixture[str]) -> None:
        self.configured = configured
        self._capsys = capsys
        self.said = ""

    def __call__(self, *arguments: str, code: int = 0) -> str:
        self._capsys.readouterr()
        try:
            ended = keys.main(arguments)
        except SystemExit as error:
            ended = int(str(error.code))
        output = self._capsys.readouterr()
        self.said = output.err
        assert ended == code, output.err
        return output.out.strip()


@contextmanager
def serving(settings: Settings) -> Iterator[Flask]:
    """The app with these settings, for the block."""
    app = create_app(settings)
    try:
        yield app
    finally:
        with app.app_context():
            services.get().database.close()


def bearer(token: str) -> dict[str, str]:
    """A header."""
    return {"Authorization": f"Bearer {token}"}


def log_in(client: FlaskClient, key: str, **form: str) -> Any:
    """As the form does."""
    return client.post("/login", data={"key": key, **form}, headers=OWN)


def sql(database: Database, statement: Any) -> list[dict[str, Any]]:
    """The rows of a statement."""
    with database.transaction() as session:
        return session.run(statement)


def form_token(client: FlaskClient) -> str:
    """What the session's forms carry."""
    return client.get("/login").get_data(as_text=True).partition('name="csrf" value="')[2].partition('"')[0]


def acts(database: Database) -> list[tuple[Any, ...]]:
    """The audit, oldest first: who, action, outcome, status code."""
    rows = sql(database, "SELECT * FROM audit ORDER BY id")
    return [(row["who"], row["action"], row["outcome"], row["status_code"]) for row in rows]
