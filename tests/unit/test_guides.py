"""The guides in docs/ name settings, files, modules, codes and metrics that there are."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDES = [
    ROOT / "docs" / f"{name}.md" for name in ("deploying", "growing", "operating", "upgrading", "troubleshooting")
]
SETTINGS = set(re.findall(r"^# ?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
STATES = {"PENDING", "BLOCKED", "SKIPPED", "COMPLETED"}
PLACEHOLDERS = {"SECRET", "KEY", "NAME", "PASSWORD", "SERVICE", "DEBUG", "SELECT"}
CODE = "\n".join(
    path.read_text()
    for room in ("jobs", "api", "scheduler", "deploy")
    for path in (ROOT / room).rglob("*")
    if path.suffix in (".py", ".sql")
)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_what_a_guide_names_exists(guide: Path) -> None:
    text = guide.read_text()
    quoted = " ".join(re.findall(r"`([^`]+)`", text)) + " ".join(re.findall(r"^    (.+)$", text, re.MULTILINE))
    names = set(re.findall(r"\b([A-Z]+_[A-Z_]+)\b(?==|\b)", quoted)) - {"CERTIFICATE_VERIFY_FAILED"}
    assert names <= SETTINGS | STATES | PLACEHOLDERS, "no such setting"
    for path in re.findall(r"\bdeploy/[\w./@-]*\w", text):
        # Those that operators make from the examples beside them.
        there = ROOT / path, ROOT / f"{path}.example"
        assert any(file.exists() for file in there) or path.endswith(".key"), path
    for module in re.findall(r"python -m ([\w.]+)", text):
        assert importlib.util.find_spec(module), module
    for target, anchor in re.findall(r"\]\((?!https?:)([\w./]*)#?([\w-]*)\)", text):
        page = (guide.parent / target) if target else guide
        assert page.exists(), target
        headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
        assert not anchor or anchor in {heading.lower().replace(" ", "-") for heading in headings}, anchor
    for metric in re.findall(r"\bpressroom_(\w+)", text):
        stem = re.sub(r"_(total|seconds)$", "", metric)
        assert stem in CODE or stem.split("_", 1)[1] in CODE or metric == "reader", metric


def test_error_codes_of_the_troubleshooting_page_are_ours() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    (table,) = re.findall(r"## Tasks fail\n(.*?)\n## ", page, re.DOTALL)
    codes = {
        code
        for cell in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
        for code in re.findall(r"`([a-z_]+)`", cell)
    }
    codes -= {"status_code"}
    assert len(codes) > 8
    assert {code for code in codes if not re.search(rf"['\"]{code}['\"]", CODE)} == set()


def test_lines_that_the_troubleshooting_page_quotes_are_ours() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    for said in (
        "wrong settings",
        "cannot reach the database",
        "waiting for the database and Redis",
        "not announced yet",
        "given up for dead",
        "the provider is busy",
        "already running with the data in",
        "there must be a key when APP_ENV is production",
    ):
        assert said in page
        assert said in CODE, said
