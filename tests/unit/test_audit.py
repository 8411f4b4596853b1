"""A known vulnerability fails the audit; an advisory service that is away does not."""

import json
import subprocess

import pytest

from deploy import audit

SAFE = {"name": "flask", "version": "3.1.3", "vulns": []}
UNKNOWN = {"name": "six", "skip_reason": "not found"}
VULNERABLE = {"name": "rq", "version": "3.0.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3.0.1"]}]}


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([SAFE], 0, ""),
        ([SAFE, UNKNOWN], 0, "audit: nothing is known of six\n"),
        ([UNKNOWN], 0, "audit: NOT DONE: no advisory service can be reached from here\n"),
        (None, 0, "audit: NOT DONE: no advisory service can be reached from here\n"),
        ([SAFE, VULNERABLE], 1, "audit: rq 3.0.0: PYSEC-1, fixed in 3.0.1\n"),
    ],
)
def test_only_a_finding_fails(
    packages: list[object] | None, code: int, said: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    output = b"Traceback: no network" if packages is None else json.dumps({"dependencies": packages}).encode()
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, stdout=output))
    assert audit.main() == code
    assert capsys.readouterr().err == said
