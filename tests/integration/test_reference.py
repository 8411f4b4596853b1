"""The pages in docs/http/ are what the OpenAPI document says."""

import subprocess
import sys
from pathlib import Path

from tests.support.instance import ROOT, clean_environment

PLACE = ROOT / "docs" / "http"


def test_the_reference_is_up_to_date(tmp_path: Path) -> None:
    # In a process of its own: other tests have task types of their own in this one.
    command = [sys.executable, "-m", "deploy.reference", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env=clean_environment(), check=True, timeout=60)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_text() for path in PLACE.iterdir()}, "run `make reference`"
