"""Whatever stands in the environment, in .env and in PROVIDERS_FILE, there are settings or a message that says what is
wrong; and what was accepted can be used."""

import asyncio
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs import settings as ours
from jobs.errors import SettingsError
from jobs.providers import catalog
from jobs.webhooks import guard
from jobs.webhooks.signing import key_of

ROOT = Path(__file__).parents[2]
NAMES = re.findall(r"^# ?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
in_tmp_path = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

# No NUL and no lone surrogates: the system does not let these into an environment.
lines = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=30)
values = lines | st.sampled_from([
    "0", "-1", "1e9", "1e400", "nan", "٣", "1_0", "true", "http://", "http://[::1", "http://a:99999", "https://\u2028/",
    "http://ü/v1", "http://a b/v1", "http://user:pass@host/v1?q#f", "postgresql://h/d", "redis://[::1]:1/0", "unix://",
    "a:0123456789abcdef:admin", "ü:0123456789abcdeü:read", "a=b|c", "a=|", "high=1", "high=nan", "600/minute", "/day",
    "10.0.0.0/8", "::/0", "1/1", "whsec_", "whsec_ü", "Europe/Berlin", "../etc/passwd", "/", "/dev/null", "high,low",
])  # fmt: skip


@contextmanager
def environment(given_values: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(given_values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def use(loaded: ours.Settings) -> None:
    """As far as a start would get without servers."""
    repr(loaded)

    async def build() -> None:
        await catalog.build(loaded).aclose()

    asyncio.run(build())


def problems() -> set[str]:
    """The variables that are said to be wrong."""
    try:
        use(ours.load())
    except SettingsError as error:
        return set(error.problems)
    return set()


@given(st.dictionaries(st.sampled_from(NAMES), values, max_size=4))
@in_tmp_path
def test_any_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: dict[str, str]) -> None:
    monkeypatch.chdir(tmp_path)
    with environment(found):
        assert problems() <= set(NAMES)


@given(st.binary(max_size=60) | st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=4))
@in_tmp_path
def test_any_dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: bytes | list[tuple[str, str]]) -> None:
    monkeypatch.chdir(tmp_path)
    written = found if isinstance(found, bytes) else "\n".join(f"{name}={value}" for name, value in found).encode()
    Path(".env").write_bytes(written)
    with environment({}):
        assert problems() <= {*NAMES, ".env"}


scalars = st.one_of(
    st.booleans().map(lambda value: str(value).lower()),
    st.integers(-5, 10**20).map(str),
    st.sampled_from(
        ["1.5", "nan", "inf", "-0.0", "2026-11-23", "[]", "[1, 2]", '["m"]', "{}", "{a=1}", '"http://h/v1"']
    ),
    lines.map(lambda text: '"' + re.sub(r'[\\"\x00-\x1f\x7f]', "", text) + '"'),
    values.map(lambda text: '"' + re.sub(r'[\\"\x00-\x1f\x7f]', "", text) + '"'),
)
keys = st.sampled_from(
    ["base_url", "models", "api_key", "api_key_env", "max_in_flight", "requests_per_minute", "input", "output", "other"]
)
tables = st.sampled_from(["providers.a", "providers.b", "prices.m", "providers", "prices", "other", 'providers.""'])


@st.composite
def toml(draw: st.DrawFn) -> str:
    parts = draw(st.lists(st.tuples(keys | st.just("currency"), scalars), max_size=2, unique_by=lambda pair: pair[0]))
    written = [f"{key} = {value}" for key, value in parts]
    for table in draw(st.lists(tables, max_size=3, unique=True)):
        inside: dict[str, Any] = draw(st.dictionaries(keys, scalars, max_size=4))
        if table.startswith("providers.") and draw(st.booleans()):
            inside = {"base_url": '"http://h/v1"', "models": '["m"]', **inside}
        written += [f"[{table}]", *(f"{key} = {value}" for key, value in inside.items())]
    return "\n".join(written)


@given(
    toml().map(str.encode)
    | st.binary(max_size=60)
    | st.sampled_from([b"a = " + b"[" * 5000, b"\xff", b"a.b.c = 1\na = 2"])
)
@in_tmp_path
def test_any_providers_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "providers.toml"
    path.write_bytes(written)
    loaded = replace(ours.load(), providers_file=path)
    try:
        use(loaded)
        assert catalog.prices(loaded)
        catalog.rules(loaded)
        catalog.keys(loaded)
    except SettingsError as error:
        assert list(error.problems) == ["PROVIDERS_FILE"]  # noqa: PT017


@given(
    lines | st.ip_addresses().map(str) | st.integers(-1, 2**33).map(str) | st.sampled_from(["0x7f.1", "[::1]", "1.1."])
)
def test_an_address_is_read_or_is_a_name(host: str) -> None:
    address = guard.literal(host)
    if address is not None:
        assert guard.is_allowed(address, ()) in (True, False)


@given(lines.map(lambda text: f"whsec_{text}") | lines)
def test_a_secret_is_a_key_or_refused(secret: str) -> None:
    with suppress(ValueError):
        assert 24 <= len(key_of(secret)) <= 64
