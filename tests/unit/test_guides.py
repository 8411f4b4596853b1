"""The README and docs/: links lead somewhere, and what is named there exists. tests/acceptance runs their commands."""

import importlib.util
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import click
import pytest

from cli.app import cli
from jobs import settings
from jobs.lifecycle import TRANSITIONS
from jobs.providers import catalog
from jobs.store.migrate import MIGRATIONS
from tests.support.instance import ROOT
from tests.support.pages import BEGINNING, ELSEWHERE, PAGES, blocks, commands

DOCS = ROOT / "docs"
REFERENCE = sorted((DOCS / "http").glob("*.md"))
LANGUAGES = {"sh", "json", "jsonl", "csv", "text", "http", "python", "javascript", "toml", "ini", "sql", "mermaid"}
SETTINGS = set(re.findall(r"^# ?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
STATES = {"PENDING", "BLOCKED", "SKIPPED", "COMPLETED", "PENDING_REVIEW"}
OF_THE_CLIENT = {f"PRESSROOM_{name}" for name in ("URL", "API_KEY", "API_KEY_FILE", "MODEL")}
PLACEHOLDERS = {"DEEPSEEK_API_KEY", "CERTIFICATE_VERIFY_FAILED", "LC_MESSAGES", "PRESSROOM_TAG"}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
MAKE_VARIABLES = set(re.findall(r"\$\((?:or \$\()?([A-Z]+)\)", (ROOT / "Makefile").read_text())) - {"VENV", "BIN"}
CODE = "\n".join(
    path.read_text()
    for room in ("jobs", "api", "scheduler", "deploy")
    for path in (ROOT / room).rglob("*")
    if path.suffix in (".py", ".sql")
)
# Those of the dashboard and the rules, which tests/integration/test_metrics.py holds to what /metrics says; and a role.
METRICS = {"pressroom_reader"} | {
    re.sub("_(bucket|sum|count)$", "", name)
    for file in ("grafana/pressroom.json", "prometheus/alerts.yml")
    for name in re.findall(r"\bpressroom_\w+", (ROOT / "deploy" / file).read_text())
}
PATHS = [
    re.compile(re.sub(r"\\{\w+\\}", r"(?:\\d+|\\{[^}]+\\}|[a-z_]+)", re.escape(path)) + r"\Z")
    for path in set(re.findall(r"`[A-Z]+ (/[^`]+)`", (DOCS / "http" / "README.md").read_text()))
]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)


def anchors(page: Path) -> set[str]:
    """What a link may lead to there, as GitHub makes it from headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", [*PAGES, *REFERENCE], ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([\w./-]*)#?([\w-]*)\)", prose(page)):
        there = (page.parent / target) if target else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


def test_the_index_has_every_page() -> None:
    linked = set(re.findall(r"\]\(([\w./-]+)\)", (DOCS / "README.md").read_text()))
    assert {page.name for page in DOCS.glob("*.md")} - {"README.md"} <= linked
    assert "http/README.md" in linked


@every_page
def test_blocks_are_such_as_the_test_of_commands_knows(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= LANGUAGES
    assert not re.search(r"(?:^\n|\A) {4}\S", prose(page), re.MULTILINE), "fence it"
    for block in blocks(page):
        if block.language == "sh":
            checked = subprocess.run(["bash", "-n", "-c", block.text], capture_output=True, text=True, check=False)
            assert checked.returncode == 0, f"line {block.line}: {checked.stderr}"


def test_nothing_is_kept_from_being_run_that_is_in_no_page() -> None:
    text = "\n".join(block.text for page in PAGES for block in blocks(page) if block.language == "sh")
    assert [start for start in ELSEWHERE if not re.search(BEGINNING.format(start), text, re.MULTILINE)] == []


@every_page
def test_settings_files_modules_and_metrics_exist(page: Path) -> None:
    text = page.read_text()
    quoted = " ".join(re.findall(r"`([^`]+)`", prose(page)) + [block.text for block in blocks(page)])
    names = set(re.findall(r"\b(?<!\$)([A-Z]+_[A-Z_]+)\b", quoted))
    assert names <= SETTINGS | STATES | OF_THE_CLIENT | PLACEHOLDERS
    for path in re.findall(r"(?<![\w/])(?:deploy|jobs|tests|api|cli|scheduler)/[\w./@-]*\w", text):
        # Those that operators make from the examples beside them; what running makes; tables of PostgreSQL's.
        there = ROOT / path, ROOT / f"{path}.example"
        made = path.endswith((".key", "/.env")) or path.startswith("tests/benchmarks/results")
        assert made or any(file.exists() for file in there), path
    for module in re.findall(r"python -m ([\w.]+)", text):
        assert importlib.util.find_spec(module), module
    assert set(re.findall(r"\bpressroom_\w+", text)) <= METRICS


@every_page
def test_paths_of_the_api_exist(page: Path) -> None:
    for path in re.findall(r"(?<=[\s`\"0])/(?:api/v1|health)\b(?:[\w/-]|\{[^}]+\})*", page.read_text()):
        assert any(known.match(path.rstrip("/")) for known in PATHS) or path in (
            "/api/v1/stats",
            "/api/v1/scheduler",
        ), path


@every_page
def test_what_is_called_takes_what_it_is_given(page: Path) -> None:
    in_prose = re.findall(r"`((?:make|\S*pressroom) [^`]+)`", prose(page))
    in_blocks = [block.text for block in blocks(page) if block.language == "sh"]
    for words in (words for text in in_prose + in_blocks for words in commands(text)):
        while words and re.match(r"[A-Z_]+=", words[0]):
            assert words.pop(0).partition("=")[0] in SETTINGS | OF_THE_CLIENT | {"PYTHONPATH"}
        if words[:1] == ["make"]:
            assert {word.partition("=")[0] for word in words[1:] if "=" in word} <= MAKE_VARIABLES | SETTINGS, words
            assert {word for word in words[1:] if "=" not in word} <= TARGETS, words
        elif words and Path(words[0]).name == "pressroom":
            _takes(words[1:])


def _takes(words: list[str]) -> None:
    """Whether the command line has these options and commands."""
    known: click.Command = cli
    for word in words:
        if isinstance(known, click.Group) and word in known.commands:
            known = known.commands[word]
        elif word.startswith("--") and known.name != "keys":
            options = {name for parameter in known.params for name in parameter.opts} | {"--help"}
            assert word.partition("=")[0] in options, f"{known.name} {word}"
    assert known is not cli or words[0].startswith("-") or not words[0].islower(), words


def test_all_settings_have_their_line() -> None:
    page = (DOCS / "settings.md").read_text()
    assert {name for name in SETTINGS if f"`{name}`" not in page} == set()


def test_endpoints_and_prices_are_read_as_their_page_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-deepseek-0123456789")
    read = []
    for number, block in enumerate(block for block in blocks(DOCS / "models.md") if block.language == "toml"):
        file = tmp_path / f"{number}.toml"
        file.write_text(block.text)
        configured = replace(settings.load(), providers_file=file)
        read.append((list(catalog.keys(configured)), catalog.prices(configured).currency))
    assert read == [(["sk-deepseek-0123456789"], "USD"), ([], "CNY")]


def test_the_diagram_and_the_table_are_the_moves_that_there_are() -> None:
    page = (DOCS / "task-life.md").read_text()
    moves = {(source.value, target.value) for source, targets in TRANSITIONS.items() for target in targets}
    drawn = re.findall(r"^ +([A-Z]+) --> ([A-Z]+)$", page, re.MULTILINE)
    listed = re.findall(r"^\| `([A-Z]+)` \| `([A-Z]+)` \|", page, re.MULTILINE)
    assert (sorted(drawn), sorted(listed)) == (sorted(moves), sorted(moves))
    assert set(re.findall(r"^\| `([A-Z]+)` \| [^`]", page, re.MULTILINE)) == {status.value for status in TRANSITIONS}


def test_every_rule_of_prometheus_has_its_line() -> None:
    rules = re.findall(r"alert: (\w+)", (ROOT / "deploy/prometheus/alerts.yml").read_text())
    assert re.findall(r"^\| `(Pressroom\w+)` \|", (DOCS / "alerts.md").read_text(), re.MULTILINE) == rules


def test_every_migration_that_locks_a_large_table_while_it_builds_an_index_has_its_line() -> None:
    blocking = {
        path.stem
        for path in MIGRATIONS.glob("*.sql")
        if path.stem >= "0010" and re.search(r"CREATE INDEX \w+ ON (?:tasks|contents|executions)\b", path.read_text())
    }
    assert set(re.findall(r"^\| `(\d+_\w+)` \|", (DOCS / "upgrading.md").read_text(), re.MULTILINE)) == blocking


def test_error_codes_of_the_troubleshooting_page_are_ours() -> None:
    page = (DOCS / "troubleshooting.md").read_text()
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
    page = (DOCS / "troubleshooting.md").read_text()
    for said in (
        "wrong settings",
        "cannot reach the database",
        "waiting for the database and Redis",
        "not announced yet",
        "given up for dead",
        "the provider is busy",
        "already running with the data in",
        "no Redis comes along for this Python and system",
        "there must be a key when APP_ENV is production",
    ):
        assert said in page
        assert said in CODE, said
