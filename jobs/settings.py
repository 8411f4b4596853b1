"""All settings, read from the environment once and validated together. The only reader of os.environ."""

import hashlib
import ipaddress
import itertools
import os
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn, cast
from urllib.parse import quote, urlsplit

from environs import Env, EnvValidationError
from marshmallow import validate

from jobs import setting_values as parse
from jobs.errors import SettingsError, Unavailable
from jobs.priority import QUEUES, QueueName
from jobs.secrets import clean, learn
from jobs.setting_values import ApiKey
from jobs.webhooks.guard import Networks

_SECRET_VARIABLES = (
    "API_KEYS", "LLM_API_KEY", "CALLBACK_SECRET", "ALERT_WEBHOOK_URL", "DATABASE_URL", "DATABASE_DIRECT_URL",
    "STATISTICS_DATABASE_URL", "REDIS_URL",
)  # fmt: skip
_METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

_SOCKET_PATH_ROOM = 80
"""Unix socket paths end at some 107 bytes; this leaves room for the servers' own file names."""


_SHORT_TARGET = 16
"""Paths up to this length hold no token; hiding them would hide innocent text."""

AlertFormat = Literal["json", "slack", "wecom", "dingtalk"]
ALERT_FORMATS: tuple[AlertFormat, ...] = ("json", "slack", "wecom", "dingtalk")


@dataclass(frozen=True, slots=True)
class Settings:
    """One process's settings; The README has the table. Secrets stay out of its repr."""

    database_url: str = field(repr=False)
    database_direct_url: str | None = field(repr=False)
    statistics_database_url: str | None = field(repr=False)
    redis_url: str = field(repr=False)
    embedded_database: bool
    embedded_redis: bool
    data_dir: Path
    host: str
    port: int
    web_concurrency: int
    watchers_max: int
    app_env: Literal["development", "production"]
    api_keys: tuple[ApiKey, ...]
    llm_base_url: str | None = field(repr=False)
    llm_api_key: str | None = field(repr=False)
    default_model: str
    embedding_model: str
    providers_file: Path | None
    worker_queues: tuple[QueueName, ...]
    worker_concurrency: int
    worker_threads: int
    worker_processes: int
    worker_process_memory_mb: int
    fallback_models: dict[str, tuple[str, ...]]
    rate_limit_patience: float
    rate_limit_default: str
    rate_limit_generate: str
    trusted_proxies: int
    max_pending: int
    queue_shares: dict[QueueName, float]
    shutdown_grace_seconds: float
    task_default_timeout: int
    task_max_retries: int
    prompt_max_chars: int
    scheduler_tick_seconds: float
    reconcile_seconds: float
    log_level: str
    log_format: Literal["json", "text"]
    log_dir: Path | None
    handler_modules: tuple[str, ...]
    prompts_dir: Path | None
    tz_default: str
    task_retention_days: int
    backup_dir: Path
    backup_keep_days: int
    callback_secret: str | None = field(repr=False)
    callback_allowed_networks: Networks
    alert_webhook_url: str | None = field(repr=False)
    alert_format: AlertFormat
    alert_queue_age_seconds: float

    @property
    def direct_url(self) -> str:
        """Where PostgreSQL itself is, past any pooler."""
        return self.database_direct_url or self.database_url

    @property
    def run_dir(self) -> Path:
        """Where the embedded servers' sockets and the lock of `make run` are."""
        return run_dir(self.data_dir)

    @property
    def clock_horizon(self) -> float:
        """How many seconds ahead the clock in Redis knows what becomes due: the reconciler adds the rest in time."""
        return max(60.0, 2 * self.reconcile_seconds)

    def secrets(self) -> list[str]:
        """Every value that must never be shown; what redaction looks for."""
        found = [key.secret for key in self.api_keys]
        found += [self.llm_api_key or "", self.callback_secret or ""]
        if self.alert_webhook_url:
            # Its token is in the path or the query.
            target = urlsplit(self.alert_webhook_url)._replace(scheme="", netloc="").geturl()
            found += [self.alert_webhook_url, target if len(target) > _SHORT_TARGET else ""]
        urls = (
            self.database_url, self.database_direct_url or "", self.statistics_database_url or "", self.redis_url,
            self.llm_base_url or "", self.alert_webhook_url or "",
        )  # fmt: skip
        return [secret for secret in (*found, *itertools.chain.from_iterable(map(parse.passwords_in, urls))) if secret]


def run_dir(data_dir: Path) -> Path:
    """The directory for sockets: in `data_dir`, or a short stand-in where its path is too long."""
    inside = data_dir.resolve() / "run"
    if len(os.fsencode(inside)) <= _SOCKET_PATH_ROOM:
        return inside
    digest = hashlib.sha256(os.fsencode(inside)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"pressroom-{digest}"


def embedded_urls(data_dir: Path) -> tuple[str, str]:
    """Where the embedded PostgreSQL and Redis of `data_dir` listen: Unix sockets, no TCP port."""
    sockets = run_dir(data_dir)
    host = quote(str(sockets / "postgres"), safe="")
    return f"postgresql://postgres@{host}/pressroom", f"unix://{quote(str(sockets))}/redis.sock"


def provider_secret(name: str) -> str | None:
    """The value of the variable, in the environment or `.env`, that PROVIDERS_FILE names as a key's source."""
    env: Any = Env()
    _read_dotenv(env)
    return cast(str | None, env.str(name, None)) if name else None


def _read_dotenv(env: Any) -> None:
    file = Path(".env")
    try:
        if file.is_file() and b"\x00" in file.read_bytes():
            raise SettingsError({".env": "has NUL characters"})
        env.read_env(".env", recurse=False)
    except (OSError, ValueError) as error:
        # Not what stands there: it may be a secret.
        raise SettingsError({".env": f"cannot be read as text ({type(error).__name__})"}) from None


def use_utc() -> None:
    """Make UTC this process's local time."""
    os.environ["TZ"] = "UTC"
    time.tzset()


def child_environment(**changes: str) -> dict[str, str]:
    """This process's environment with `changes`, for the processes it starts."""
    return {**os.environ, **changes}


def share_metrics() -> Path:
    """Have this process and those it forks keep their HTTP timings in one directory, so that each can add them up.

    Makes the directory, once in a process. To be called before prometheus_client is imported, which looks for it then.
    """
    prefix = f"pressroom-metrics-{os.getpid()}-"
    directory = shared_metrics()
    if directory is None or not directory.name.startswith(prefix):
        directory = Path(tempfile.mkdtemp(prefix=prefix))
        os.environ[_METRICS_VARIABLE] = str(directory)
    return directory


def shared_metrics() -> Path | None:
    """That directory; None in a process that keeps its timings to itself."""
    directory = os.environ.get(_METRICS_VARIABLE)
    return Path(directory) if directory else None


def is_loopback(host: str) -> bool:
    """Whether `host` can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def exposed_by(settings: Settings) -> dict[str, str]:
    """By which settings the service may not be open; variable name -> why, empty on loopback in development."""
    hint = (
        "set API_KEYS (name:secret:scope), or start once without HOST and APP_ENV, "
        "make a key (python -m jobs.keys make NAME --scope admin) and start again"
    )
    if settings.app_env == "production":
        return {"API_KEYS": f"there must be a key when APP_ENV is production; {hint}"}
    if not is_loopback(settings.host):
        return {"HOST": f"{settings.host} is reachable from outside, and there is no key; {hint}"}
    return {}


def unreachable(settings: Settings, error: Unavailable) -> str:
    """What the command line says when the database cannot be reached."""
    hint = "is `make run` up?" if settings.embedded_database else "DATABASE_URL"
    return f"the database cannot be reached ({hint}): {error}"


def load() -> Settings:
    """Read and check everything.

    Raises:
        SettingsError: one entry per wrong variable.
    """
    # libpq asks the server for it: times come back in UTC, whatever zone the database is set to.
    os.environ["PGTZ"] = "UTC"
    env: Any = Env(eager=False)
    _read_dotenv(env)
    parsers = {
        "keys": parse.api_keys,
        "queues": parse.queues,
        "shares": parse.shares,
        "level": parse.log_level,
        "fallbacks": parse.fallbacks,
        "whsec": parse.callback_secret,
        "networks": parse.networks,
    }
    for name, parser in parsers.items():
        env.add_parser(name, parser)

    # Heroku sets it, but nothing to say that its router must reach us, and that Redis's certificate is self-signed.
    on_heroku = bool(env.str("DYNO", ""))
    data_dir = Path(env.str("DATA_DIR", "./data"))
    embedded_pg, embedded_redis = embedded_urls(data_dir)
    database_url = env.str("DATABASE_URL", "", validate=parse.database_url)
    direct_url = env.str("DATABASE_DIRECT_URL", "", validate=parse.database_url)
    statistics_url = env.str("STATISTICS_DATABASE_URL", "", validate=parse.database_url)
    redis_url = env.str("REDIS_URL", "", validate=parse.redis_url)
    if not env.bool("REDIS_TLS_VERIFY", not on_heroku):
        redis_url = parse.unverified(redis_url)
    app_env = env.str(
        "APP_ENV", "production" if on_heroku else "development", validate=validate.OneOf(["development", "production"])
    )
    log_format = env.str("LOG_FORMAT", "auto", validate=validate.OneOf(["auto", "json", "text"]))
    log_dir = env.str("LOG_DIR", "")
    providers_file = env.str("PROVIDERS_FILE", "", validate=parse.readable_file)
    prompts_dir = env.str("PROMPTS_DIR", "", validate=parse.readable_directory)
    backup_dir = env.str("BACKUP_DIR", "")
    values: dict[str, Any] = {
        "database_url": database_url or embedded_pg,
        "database_direct_url": direct_url or None,
        "statistics_database_url": statistics_url or None,
        "redis_url": redis_url or embedded_redis,
        "embedded_database": not database_url,
        "embedded_redis": not redis_url,
        "data_dir": data_dir,
        "host": env.str("HOST", "0.0.0.0" if on_heroku else "127.0.0.1"),  # noqa: S104
        "port": env.int("PORT", 8000, validate=validate.Range(1, 65535)),
        "web_concurrency": env.int("WEB_CONCURRENCY", 2, validate=validate.Range(1, 64)),
        "watchers_max": env.int("WATCHERS_MAX", 250, validate=validate.Range(1, 5000)),
        "app_env": app_env,
        "api_keys": env.keys("API_KEYS", ""),
        "llm_base_url": env.str("LLM_BASE_URL", "", validate=parse.url("http", "https")) or None,
        "llm_api_key": env.str("LLM_API_KEY", "", validate=parse.header_value) or None,
        "default_model": env.str("DEFAULT_MODEL", "deepseek-chat", validate=validate.Length(min=1)),
        "embedding_model": env.str("EMBEDDING_MODEL", "text-embedding-3-small", validate=validate.Length(1, 200)),
        "providers_file": Path(providers_file) if providers_file else None,
        "worker_queues": env.queues("WORKER_QUEUES", ",".join(QUEUES)),
        "worker_concurrency": env.int("WORKER_CONCURRENCY", 100, validate=validate.Range(1, 10_000)),
        "worker_threads": env.int("WORKER_THREADS", 16, validate=validate.Range(1, 1000)),
        "worker_processes": env.int("WORKER_PROCESSES", os.cpu_count() or 1, validate=validate.Range(1, 1000)),
        "worker_process_memory_mb": env.int("WORKER_PROCESS_MEMORY_MB", 1024, validate=validate.Range(64)),
        "fallback_models": env.fallbacks("FALLBACK_MODELS", ""),
        "rate_limit_patience": env.float("RATE_LIMIT_PATIENCE", 3600.0, validate=parse.seconds(0, 86_400 * 7)),
        "rate_limit_default": env.str("RATE_LIMIT_DEFAULT", "600/minute", validate=parse.rate_limit),
        "rate_limit_generate": env.str("RATE_LIMIT_GENERATE", "5/minute", validate=parse.rate_limit),
        "trusted_proxies": env.int("TRUSTED_PROXIES", 0, validate=validate.Range(0, 10)),
        "max_pending": env.int("MAX_PENDING", 1_000_000, validate=validate.Range(min=0)),
        "queue_shares": env.shares("QUEUE_SHARES", "high=1.0,default=0.9,low=0.7"),
        "shutdown_grace_seconds": env.float("SHUTDOWN_GRACE_SECONDS", 25.0, validate=parse.seconds(1, 3600)),
        "task_default_timeout": env.int("TASK_DEFAULT_TIMEOUT", 300, validate=validate.Range(1, 86_400)),
        "task_max_retries": env.int("TASK_MAX_RETRIES", 3, validate=validate.Range(0, 100)),
        "prompt_max_chars": env.int("PROMPT_MAX_CHARS", 100_000, validate=validate.Range(min=1)),
        "scheduler_tick_seconds": env.float("SCHEDULER_TICK_SECONDS", 1.0, validate=parse.seconds(0.05, 60)),
        "reconcile_seconds": env.float("RECONCILE_SECONDS", 5.0, validate=parse.seconds(0.1, 600)),
        "log_level": env.level("LOG_LEVEL", "INFO"),
        "log_format": ("json" if app_env == "production" else "text") if log_format == "auto" else log_format,
        "log_dir": Path(log_dir) if log_dir else None,
        "handler_modules": tuple(env.list("HANDLER_MODULES", [])),
        "prompts_dir": Path(prompts_dir) if prompts_dir else None,
        "tz_default": env.str("TZ_DEFAULT", "UTC", validate=parse.zone),
        "task_retention_days": env.int("TASK_RETENTION_DAYS", 30, validate=validate.Range(1, 36_500)),
        "backup_dir": Path(backup_dir) if backup_dir else data_dir / "backups",
        "backup_keep_days": env.int("BACKUP_KEEP_DAYS", 7, validate=validate.Range(1, 36_500)),
        "callback_secret": env.whsec("CALLBACK_SECRET", ""),
        "callback_allowed_networks": env.networks("CALLBACK_ALLOWED_NETWORKS", ""),
        "alert_webhook_url": env.str("ALERT_WEBHOOK_URL", "", validate=parse.url("http", "https")) or None,
        "alert_format": env.str("ALERT_FORMAT", "json", validate=validate.OneOf(ALERT_FORMATS)),
        "alert_queue_age_seconds": env.float("ALERT_QUEUE_AGE_SECONDS", 300.0, validate=parse.seconds(1, 86_400 * 7)),
    }
    try:
        env.seal()
    except EnvValidationError as error:
        problems = cast(dict[str, list[object]], error.error_messages)
        raise SettingsError({name: " ".join(map(str, said)) for name, said in problems.items()}) from None
    loaded = Settings(**values)
    learn(loaded.secrets())
    return loaded


def fail(error: SettingsError) -> NoReturn:
    """Say every wrong setting on standard error and exit with code 2."""
    for name in _SECRET_VARIABLES:
        learn(parse.secrets_in(os.environ.get(name, "")))
    sys.stderr.write(f"pressroom: wrong settings\n{clean(str(error))}\n")
    raise SystemExit(2)


def load_or_exit() -> Settings:
    """`load` for the start of a process: a clear message and exit code 2 instead of an error.

    What is caught nowhere is from now on told without secrets.
    """
    sys.excepthook = lambda *error: sys.stderr.write(clean("".join(traceback.format_exception(*error)))) and None
    try:
        return load()
    except SettingsError as error:
        fail(error)
