"""Settings are read once, and everything wrong is said at once."""

import re
from pathlib import Path

import pytest

from jobs import settings
from jobs.errors import SettingsError
from jobs.secrets import Redactor
from jobs.setting_values import passwords_in, sentinels


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_defaults_need_no_environment() -> None:
    loaded = settings.load()
    assert (loaded.host, loaded.port, loaded.worker_concurrency) == ("127.0.0.1", 8000, 100)
    assert loaded.worker_queues == ("high", "default", "low")
    assert loaded.queue_shares == {"high": 1.0, "default": 0.9, "low": 0.7}
    assert loaded.embedded_database
    assert loaded.embedded_redis


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "eighty"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("WATCHERS_MAX", "0"),
        ("APP_ENV", "staging"),
        ("DATABASE_URL", "mysql://localhost/x"),
        ("DATABASE_URL", "postgresql://host:notaport/x"),
        ("DATABASE_URL", "postgresql://host/x?nonsense=1"),
        ("DATABASE_DIRECT_URL", "postgresql://user:100%@host/x"),
        ("REDIS_URL", "localhost:6379"),
        ("LLM_BASE_URL", "ftp://models"),
        ("PROVIDERS_FILE", "/does/not/exist.toml"),
        ("WORKER_QUEUES", "high,urgent"),
        ("WORKER_QUEUES", "high,high"),
        ("WORKER_QUEUES", ","),
        ("WORKER_CONCURRENCY", "0"),
        ("LLM_BASE_URL", "http://\u2028/v1"),
        ("LLM_API_KEY", "sk-one\nX-Other: header"),
        ("LLM_API_KEY", "sk-schlüssel"),
        ("ALERT_WEBHOOK_URL", "https://\x80/hook"),
        ("TZ_DEFAULT", "Mars/Olympus"),
        ("TZ_DEFAULT", "localtime"),
        ("RATE_LIMIT_DEFAULT", "often"),
        ("RATE_LIMIT_DEFAULT", "0/minute"),
        ("RATE_LIMIT_GENERATE", "5/fortnight"),
        ("TRUSTED_PROXIES", "-1"),
        ("MAX_PENDING", "many"),
        ("QUEUE_SHARES", "high=2"),
        ("QUEUE_SHARES", "low"),
        ("QUEUE_SHARES", "urgent=0.5"),
        ("SHUTDOWN_GRACE_SECONDS", "soon"),
        ("SHUTDOWN_GRACE_SECONDS", "nan"),
        ("TASK_DEFAULT_TIMEOUT", "0"),
        ("TASK_MAX_RETRIES", "-1"),
        ("PROMPT_MAX_CHARS", "0"),
        ("CALLBACK_SECRET", "verysecretvalue0123456789"),
        ("CALLBACK_ALLOWED_NETWORKS", "10.0.0.0/8,localhost"),
        ("CALLBACK_ALLOWED_NETWORKS", "10.0.0.1/8"),
        ("ALERT_WEBHOOK_URL", "example.com/hook"),
        ("ALERT_FORMAT", "email"),
        ("ALERT_QUEUE_AGE_SECONDS", "0"),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_FORMAT", "xml"),
        ("API_KEYS", "justaname"),
        ("API_KEYS", "name:short:admin"),
        ("API_KEYS", "name:0123456789abcdef0:root"),
        ("API_KEYS", "a:0123456789abcdef0:read,a:0123456789abcdef1:read"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        settings.load()
    assert list(caught.value.problems) == [name]


def test_all_wrong_variables_are_named_at_once_and_the_exit_code_is_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORT", "eighty")
    monkeypatch.setenv("WORKER_QUEUES", "urgent")
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    with pytest.raises(SystemExit) as caught:
        settings.load_or_exit()
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert all(name in said for name in ("PORT", "WORKER_QUEUES", "LOG_LEVEL"))
    assert "Traceback" not in said


def test_secrets_are_neither_in_messages_nor_in_the_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEYS", "console:verysecretvalue0123:admin")
    monkeypatch.setenv("LLM_API_KEY", "sk-verysecretvalue")
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:verysecretvalue@h/d")
    monkeypatch.setenv("CALLBACK_SECRET", "whsec_verysecretvalueverysecretvalueve")
    monkeypatch.setenv("ALERT_WEBHOOK_URL", "https://hooks.example/send?key=verysecretvalue")
    assert "verysecret" not in repr(settings.load())
    monkeypatch.setenv("CALLBACK_SECRET", "verysecretvalue")
    with pytest.raises(SettingsError) as caught:
        settings.load()
    assert "verysecret" not in str(caught.value)
    monkeypatch.setenv("API_KEYS", "verysecretvalue")
    with pytest.raises(SettingsError) as caught:
        settings.load()
    assert "verysecret" not in str(caught.value)


def test_the_token_of_the_alert_webhook_is_hidden_in_whatever_part_of_it_is_logged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALERT_WEBHOOK_URL", "https://hooks.example/services/T0/B0/token")
    redactor = Redactor()
    redactor.learn(settings.load().secrets())
    for part in ("https://hooks.example/services/T0/B0/token", "/services/T0/B0/token"):
        assert "token" not in redactor.clean(f"POST {part} failed")
    monkeypatch.setenv("ALERT_WEBHOOK_URL", "http://127.0.0.1:9/")
    redactor = Redactor()
    redactor.learn(settings.load().secrets())
    assert redactor.clean("GET /tasks") == "GET /tasks"


def test_a_dotenv_file_is_read_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("PORT=9001\nDEFAULT_MODEL=from-file\n")
    monkeypatch.setenv("PORT", "9002")
    monkeypatch.delenv("DEFAULT_MODEL", raising=False)
    loaded = settings.load()
    monkeypatch.delenv("DEFAULT_MODEL", raising=False)
    assert (loaded.port, loaded.default_model) == (9002, "from-file")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"DATA_DIR=a\x00b\n"])
def test_a_dotenv_file_that_is_no_text_is_said_to_be_wrong(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        settings.load()
    assert list(caught.value.problems) == [".env"]


def test_a_deep_data_dir_still_gets_short_socket_paths(tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 40)
    assert len(str(settings.run_dir(deep))) < 80
    assert settings.run_dir(deep) == settings.run_dir(deep)
    assert settings.run_dir(deep) != settings.run_dir(tmp_path / ("else" * 40))


@pytest.mark.parametrize(("reconcile_seconds", "horizon"), [("5", 60), ("600", 1200)])
def test_the_clock_is_filled_for_longer_than_until_the_next_time(
    reconcile_seconds: str, horizon: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECONCILE_SECONDS", reconcile_seconds)
    assert settings.load().clock_horizon == horizon


def test_the_example_file_lists_every_setting() -> None:
    root = Path(settings.__file__).parents[1]
    source = (root / "jobs" / "settings.py").read_text()
    example = (root / ".env.example").read_text()
    names = set(re.findall(r'env\.\w+\(\s*"([A-Z_]+)"', source))
    assert names
    assert names == set(re.findall(r"^# ?([A-Z_]+)=", example, re.MULTILINE))


def test_on_heroku_the_router_reaches_it_and_redis_signs_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "rediss://:secretsecret@redis.example.com:6380")
    assert settings.load().redis_url == "rediss://:secretsecret@redis.example.com:6380"
    monkeypatch.setenv("DYNO", "web.1")
    loaded = settings.load()
    assert (loaded.host, loaded.app_env, loaded.log_format) == ("0.0.0.0", "production", "json")
    assert loaded.redis_url.endswith(":6380?ssl_cert_reqs=none")
    monkeypatch.setenv("REDIS_TLS_VERIFY", "true")
    monkeypatch.setenv("HOST", "127.0.0.1")
    assert settings.load().redis_url.endswith(":6380")
    assert settings.load().host == "127.0.0.1"


def test_sentinels_are_named_in_one_url() -> None:
    url = "rediss+sentinel://u:p%40w@one:1,two,[::1]:3/main/4?sentinel_password=s3cret-s&ssl_ca_certs=/ca.pem"
    found = sentinels(url)
    assert found.addresses == (("one", 1), ("two", 26379), ("::1", 3))
    assert (found.service, found.sentinel_password) == ("main", "s3cret-s")
    assert found.url == "rediss://u:p%40w@sentinel/4?ssl_ca_certs=%2Fca.pem"
    assert passwords_in(url) == ["p%40w", "s3cret-s"]


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://one",
        "redis+sentinel:///main",
        "redis+sentinel://a,/main",
        "redis+sentinel://a:x/main",
        "redis+sentinel://a/main/x",
    ],
)
def test_what_names_no_sentinels_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    with pytest.raises(SettingsError, match="REDIS_URL"):
        settings.load()
