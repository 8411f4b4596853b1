"""What the OpenAPI document promises holds for generated requests; `make fuzz` has many more of them."""

from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from schemathesis.transport.wsgi import WSGI_TRANSPORT

from jobs.setting_values import ApiKey
from jobs.settings import Settings
from tests.support import fuzzing

SEED = 1
# Every method that is not there, and each value at and just beyond each bound: of these few operations, for the time it
# takes. Between them they have everything: path, query, headers and body, with and without.
COVERED = ["create_account", "list_accounts", "get_content", "delete_account", "liveness", "preview_schedule"]


@pytest.fixture
def configured(configured: Settings) -> Settings:
    key = ApiKey("fuzzing", fuzzing.KEY, "admin")
    return replace(configured, api_keys=(key,), trusted_proxies=1, rate_limit_default="", rate_limit_generate="")


@pytest.fixture(autouse=True)
def _transport(monkeypatch: pytest.MonkeyPatch) -> None:
    """schemathesis 4.32.5 gives the probes of `ignored_auth` options that werkzeug's client does not know."""
    send = WSGI_TRANSPORT.send

    def without_network_options(case: Any, **options: Any) -> Any:
        for name in ("max_redirects", "verify", "cert"):
            options.pop(name, None)
        return send(case, **options)

    monkeypatch.setattr(WSGI_TRANSPORT, "send", without_network_options)


def fuzz(schema: Any, *phases: str) -> fuzzing.Report:
    for phase in ("examples", "coverage", "fuzzing", "stateful"):
        getattr(schema.config.phases, phase).enabled = phase in phases
    report = fuzzing.fuzz(schema)
    assert not report.failures, str(report)
    return report


def test_requests_that_fit_are_accepted_and_others_refused(app: Flask) -> None:
    report = fuzz(fuzzing.in_process(app, 2, SEED), "examples", "fuzzing")
    assert report.requests > 150


def test_every_bound_and_method_is_as_the_document_says(app: Flask) -> None:
    report = fuzz(fuzzing.in_process(app, 1, SEED).include(operation_id=COVERED), "coverage")
    assert report.statuses[405] > len(COVERED)


def test_what_was_made_can_be_found_changed_and_removed_by_the_links(app: Flask) -> None:
    report = fuzz(fuzzing.in_process(app, 8, SEED), "stateful")
    assert report.requests > 50
