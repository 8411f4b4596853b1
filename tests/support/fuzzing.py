"""Schemathesis: requests made from the OpenAPI document, good, bad and in sequence, and each answer checked.

`make fuzz` does it to a running instance, with so many examples for each operation; the test suite does it
briefly, in process (tests/integration/test_fuzzing.py).
"""

import argparse
import itertools
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

import schemathesis
from hypothesis import strategies
from schemathesis.core.failures import ServerError
from schemathesis.engine import Status, events, from_schema
from schemathesis.openapi.checks import RejectedPositiveData

from jobs import zones
from tests.support.instance import fresh_directory, running

KEY = "fuzzing-secret-key"
_ADDRESSES = itertools.count(1)
_AUTHORIZED = {"Authorization": f"Bearer {KEY}"}

RULES = re.compile(
    "|".join(
        (
            r"Give \w+ or \w+, not both\.",
            r"Not a cursor of this list and order\.",
            r"This Idempotency-Key was used with another request\.",
            r"There is no task [\d, ]+\.",
            r"Required unless topics are given\.",
            r"May not be blank\.",
            r"Not a valid template: .*",
            r"Not a valid URL\.",
            r"Callbacks may not go to this address: .*",
            r"Give cron_expression or interval\.",
            r"Longer than \d+ days\.",
            r"Has \d+ entries for \d+ texts\.",
            r"The collection has vectors of .*, none of .*\.",
            r"Five fields are needed .*",
            r"The \w+ field .* is not a number, name, list, range or step\.",
            r"Not a cron expression: .*",
            r"Such a date never comes\.",
            r"Not an IANA time zone\.",
            r"Goes with interval, and only with it\.",
            r"Must be after starts_at\.",
        )
    )
)
"""What is refused though its schema allows it: JSON Schema has no words for these rules."""


@dataclass
class Report:
    """What was sent and seen."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    passed: Counter[str] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))
        checks = (f"  {name}: {count} passed" for name, count in sorted(self.passed.items()))
        head = (f"{self.requests} requests", f"answers: {statuses}", *checks, f"{len(self.failures)} failures")
        return "\n".join((*head, *self.failures.values()))


schemathesis.openapi.format(
    "uri", strategies.sampled_from(["https://example.com/hook", "http://example.org:8080/?a=b"])
)
schemathesis.openapi.format("cron", strategies.sampled_from(["0 8 * * *", "*/5 0-6,23 1 jan-mar mon"]))
schemathesis.openapi.format("iana-time-zone", strategies.sampled_from(sorted(zones.names())))


def configuration(examples: int, seed: int) -> schemathesis.Config:
    """With so many examples for each operation in each phase; all checks are on."""
    refusals = [400, 401, 403, 404, 405, 409, 413, 414, 415, 422, 431]
    config = schemathesis.Config.from_dict(
        {
            "auth": {"openapi": {"bearer": {"bearer": KEY}}},
            "cache": {"enabled": False},
            # A body with the many fields of a task is large for Hypothesis, which is none of its faults.
            "suppress-health-check": ["large_base_example"],
            "checks": {"negative_data_rejection": {"expected-statuses": refusals}},
        }
    )
    config.update(seed=seed, max_failures=None)
    config.projects.default.generation.update(max_examples=examples)
    return config


def in_process(app: Any, examples: int, seed: int) -> Any:
    """The API of a Flask app, reached by WSGI: exceptions are seen as such."""
    config = configuration(examples, seed)
    return schemathesis.openapi.from_wsgi("/openapi.json", app, config=config, headers=_AUTHORIZED)


def _is_unexpected(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Whether a failure is one: neither a report of ill health, nor what follows from one of `RULES`."""
    operation = case.operation.definition.raw["operationId"]
    if isinstance(failure, ServerError):
        return not (response.status_code == 503 and operation in ("readiness", "scheduler_status"))
    if isinstance(failure, RejectedPositiveData) and response.status_code == 422:
        errors = response.json()["errors"]
        if operation == "change_schedule":
            # Which these may be depends on the executor of the schedule that is there.
            errors["json"].pop("params", None)
        return not all(RULES.fullmatch(message) for message in _leaves(errors))
    return True


@schemathesis.hook("before_call")
def _from_elsewhere(_context: Any, case: Any, _options: Any) -> None:
    """With TRUSTED_PROXIES=1, each request comes from an address of its own.

    Those from which keys are tried in vain are refused after a while, and schemathesis does nothing else.
    """
    case.headers["X-Forwarded-For"] = str(IPv4Address("10.0.0.0") + next(_ADDRESSES))


def _leaves(errors: Any) -> Iterator[str]:
    if isinstance(errors, str):
        yield errors
    else:
        for part in errors.values() if isinstance(errors, dict) else errors:
            yield from _leaves(part)


def fuzz(schema: Any) -> Report:
    """Run all phases: examples, coverage, fuzzing, and sequences along the links."""
    report = Report()
    schema.hook("filter_failure")(_is_unexpected)
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError):
            report.failures[f"{event.label}: {event.value!r}"] = f"{event.label}: {event.info.format()}"
        if isinstance(event, events.FatalError):
            raise event.exception
        if isinstance(event, events.ScenarioFinished):
            _add(report, event.recorder)
    return report


def _add(report: Report, recorder: Any) -> None:
    report.requests += len(recorder.interactions)
    report.statuses.update(i.response.status_code for i in recorder.interactions.values() if i.response)
    for case_id, checks in recorder.checks.items():
        for check in checks:
            if check.status == Status.SUCCESS:
                report.passed[check.name] += 1
            elif check.failure_info:
                failure = check.failure_info.failure
                key = f"{recorder.label} {check.name} {failure.title} {failure.message}"
                if key not in report.failures:
                    response = recorder.interactions[case_id].response
                    said = response.content[:1500].decode(errors="replace") if response else "no answer"
                    report.failures[key] = (
                        f"{recorder.cases[case_id].value.operation.label}: {check.name}: {failure.title}\n"
                        f"{failure.message[:2000]}\n{check.failure_info.code_sample[:4000]}\n{said}"
                    )


def main() -> int:
    """Fuzz a running instance; the exit code says whether nothing failed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--examples", type=int, default=250, help="for each operation, in each phase")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    options = {
        "API_KEYS": f"fuzzing:{KEY}:admin",
        "RATE_LIMIT_DEFAULT": "",
        "RATE_LIMIT_GENERATE": "",
        "TRUSTED_PROXIES": 1,
    }
    with fresh_directory() as directory, running(directory, **options) as instance:
        config = configuration(chosen.examples, chosen.seed)
        url = f"http://127.0.0.1:{instance.port}/openapi.json"
        schema = schemathesis.openapi.from_url(url, config=config, headers=_AUTHORIZED, wait_for_schema=10)
        report = fuzz(schema)
        _, *tracebacks = instance.log().split("Traceback (most recent call last):")
    print(report)
    print(f"{len(tracebacks)} tracebacks in the log")
    for traceback in tracebacks[:3]:
        print(traceback[:3000])
    return 1 if report.failures or tracebacks else 0


if __name__ == "__main__":
    sys.exit(main())
