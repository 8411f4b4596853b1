"""Which endpoint answers for a model."""

from pathlib import Path

import pytest

from jobs import settings
from jobs.errors import AttemptError, SettingsError
from jobs.providers import catalog

GOOD = """
[providers.deepseek]
base_url = "https://api.deepseek.com/v1"
api_key_env = "TEST_DEEPSEEK_KEY"
models = ["deepseek-chat", "deepseek-reasoner"]

[providers.local]
base_url = "http://127.0.0.1:11434/v1"
models = ["llama3"]
"""


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEST_DEEPSEEK_KEY", "sk-1")
    monkeypatch.chdir(tmp_path)


def build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str = "", **environment: str) -> catalog.Catalog:
    if text:
        (tmp_path / "providers.toml").write_text(text)
        monkeypatch.setenv("PROVIDERS_FILE", str(tmp_path / "providers.toml"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return catalog.build(settings.load())


def test_without_any_endpoint_the_offline_provider_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert build(monkeypatch, tmp_path).provider_for("anything").name == "offline"


def test_models_find_their_endpoint_and_others_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = build(monkeypatch, tmp_path, GOOD, LLM_BASE_URL="http://127.0.0.1:1/v1")
    assert known.provider_for("deepseek-reasoner").name == "deepseek"
    assert known.provider_for("llama3").name == "local"
    assert known.provider_for("gpt-5").name == "default"


def test_with_endpoints_but_no_default_an_unknown_model_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(AttemptError) as caught:
        build(monkeypatch, tmp_path, GOOD).provider_for("gpt-5")
    assert caught.value.error.code == "unknown_model"
    assert not caught.value.error.retryable


def test_a_key_may_stand_in_the_dotenv_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TEST_FILE_KEY=sk-2\n")
    text = '[providers.a]\nbase_url = "http://h/v1"\nmodels = ["m"]\napi_key_env = "TEST_FILE_KEY"'
    build(monkeypatch, tmp_path, text)
    assert catalog.keys(settings.load()) == ["sk-2"]


def test_prices_stand_in_the_same_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    build(monkeypatch, tmp_path, 'currency = "CNY"\n[prices."deepseek-chat"]\ninput = 2\noutput = 3.5\n' + GOOD)
    prices = catalog.prices(settings.load())
    assert prices.currency == "CNY"
    assert prices.money("deepseek-chat", 1_000_000, 2_000_000) == 9.0
    assert prices.money("llama3", 1, 1) is None


def test_prices_need_no_endpoints(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = build(monkeypatch, tmp_path, '[prices."local"]\ninput = 0\noutput = 0\n')
    assert known.provider_for("local").name == "offline"
    prices = catalog.prices(settings.load())
    assert (prices.currency, prices.money("local", 5, 5)) == ("USD", 0.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not toml", "providers.toml"),
        ("", "no [providers.NAME] table"),
        ("[providers.a]\n", "base_url"),
        ('[providers.a]\nbase_url = "nowhere"\nmodels = ["m"]', "base_url"),
        ('[providers.a]\nbase_url = "http://h/v1"\nmodels = []', "models"),
        ('[providers.a]\nbase_url = "http://h/v1"\nmodels = ["m"]\nspeed = 1', "speed"),
        ('[providers.a]\nbase_url = "http://h/v1"\nmodels = ["m"]\napi_key_env = "TEST_UNSET"', "api_key_env"),
        (
            "".join(f'[providers.{name}]\nbase_url = "http://h/v1"\nmodels = ["m"]\n' for name in "ab"),
            "both a and b",
        ),
        ("[endpoints.a]\n", "endpoints"),
        ("a = " + "[" * 5000, "nested"),
        ('[providers.a]\nbase_url = "http://a..b:99999999/v1"\nmodels = ["m"]', "base_url"),
        ('[providers.a]\nbase_url = "http://h/v1"\nmodels = ["m"]\napi_key = "a\\nb"', "api_key"),
        ('[prices."m"]\ninput = 1', "output"),
        ('[prices."m"]\ninput = -1\noutput = 1', "input"),
        ('[prices."m"]\ninput = 1\noutput = 1\ncached = 1', "cached"),
        ("prices = 3", "prices"),
        ('currency = "euro"\n', "currency"),
    ],
)
def test_a_wrong_file_is_explained(text: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        build(monkeypatch, tmp_path, text or "# empty")
    assert said in caught.value.problems["PROVIDERS_FILE"]
