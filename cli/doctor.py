"""What can be wrong with an installation, looked at from this machine, each with what to do about it."""

import asyncio
import importlib.metadata
import logging
import re
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import httpx

from cli.client import Client, Connect
from cli.problems import Problem
from jobs import __version__, backup, settings
from jobs.bundled import MISSING_REDIS, redis_server
from jobs.errors import SettingsError, Unavailable
from jobs.handlers import registry
from jobs.prompts import Prompts
from jobs.providers import catalog
from jobs.queues import RedisError
from jobs.queues import connect as connect_redis
from jobs.secrets import clean, learn
from jobs.settings import Settings
from jobs.store.database import Database
from jobs.store.migrate import pending

_PINS: Final = Path(__file__).parents[1] / "requirements.txt"
_PIN: Final = re.compile(r"(?m)^([A-Za-z0-9._-]+)==([^\s;]+)(?: ; (\S.*?))? \\$")
_CLOCK_SECONDS: Final = 2.0
_ROOM_BYTES: Final = 1024**3
_BACKUP_DAYS: Final = 2
_ENDPOINT_SECONDS: Final = 10.0
_LEAST_REDIS: Final = (6, 2)


class Check(NamedTuple):
    """What was looked at, and how it is; `advice` says what to do where it is not well."""

    name: str
    state: Literal["ok", "NOTE", "PROBLEM"]
    said: str
    advice: str = ""


def examine(connect: Connect) -> list[Check]:
    """All checks; where one finds nothing to look at, those that rest on it are left out."""
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)
    found = [*_service(connect)]
    is_served = not any(check.name == "service" and check.state == "PROBLEM" for check in found)
    try:
        configured = settings.load()
        found.insert(0, _versions())
        learn(catalog.keys(configured))
        registry.load(configured.handler_modules)
        Prompts(configured.prompts_dir)
    except SettingsError as error:
        fix = "set it right in the environment or .env; .env.example has them all"
        wrong = [Check(name, "PROBLEM", why, fix) for name, why in error.problems.items()]
        return [_cleaned(check) for check in (*found, *wrong)]
    found.append(Check("settings", "ok", f"all right, APP_ENV is {configured.app_env}"))
    if configured.embedded_database and not configured.run_dir.exists() and is_served:
        said = "none here: no DATABASE_URL, and nothing in DATA_DIR"
        found.append(Check("servers", "NOTE", said, "run this where the service runs to have its servers looked at"))
    else:
        found += [*_database(configured), *_redis(configured), *_files(configured)]
    found += _endpoints(configured)
    return [_cleaned(check) for check in found]


def _cleaned(check: Check) -> Check:
    return check._replace(said=clean(check.said))


def _versions() -> Check:
    python = ".".join(map(str, sys.version_info[:3]))
    wrong = []
    for name, version, marker in _PIN.findall(_PINS.read_text(encoding="utf-8")):
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if not marker:  # those with one are not for every Python and system
                wrong.append(f"{name} is missing")
            continue
        if installed != version:
            wrong.append(f"{name} is {installed}, not {version}")
    if wrong:
        advice = "install what is pinned: pip install --require-hashes -r requirements.txt"
        return Check("packages", "PROBLEM", "; ".join(wrong), advice)
    return Check("versions", "ok", f"Pressroom {__version__}, Python {python}, packages as pinned")


def _service(connect: Connect) -> Iterator[Check]:
    try:
        with connect() as client:
            before = time.time()
            alive = client.get("/api/v1/health")
            if alive["version"] != __version__:
                said = f"it is {alive['version']}, this is {__version__}"
                yield Check("version", "NOTE", said, "use the same, or restart the service after an upgrade")
            yield from _clock("service", datetime.fromisoformat(alive["timestamp"]).timestamp(), before)
            health = client.health()
            if health["database"]:  # else keys cannot be looked up, and asking would only wait for it
                yield from _access(client)
            yield _ready(client.url, health)
    except Problem as problem:
        yield Check("service", "PROBLEM", problem.message, "start it (make run), or set PRESSROOM_URL")
    except (KeyError, TypeError, ValueError):
        yield Check("service", "PROBLEM", "what answers there is not Pressroom", "set PRESSROOM_URL right")


def _access(client: Client) -> Iterator[Check]:
    try:
        client.slice("/api/v1/tasks", limit=1)
    except Problem as problem:
        yield Check("key", "PROBLEM", problem.message, "make one: pressroom keys make NAME --scope submit")


def _ready(url: str, health: dict[str, Any]) -> Check:
    missing = [name for name in ("database", "redis", "scheduler") if not health[name]]
    if missing:
        advice = "see below; the scheduler is the process `python -m scheduler`"
        return Check("service", "PROBLEM", f"{url} misses: {', '.join(missing)}", advice)
    if not health["workers"]:
        return Check("service", "PROBLEM", f"{url} has no worker", "start one: python -m jobs.worker")
    return Check("service", "ok", f"{url} is healthy, with {health['workers']} worker(s) and a scheduler")


def _clock(whose: str, there: float, here: float) -> Iterator[Check]:
    apart = abs(there - here)
    if apart > _CLOCK_SECONDS:
        said = f"the {whose}'s differs from this machine's by {apart:.0f} s"
        yield Check("clock", "PROBLEM", said, "have all machines set their clocks (NTP): leases and schedules need it")


def _database(configured: Settings) -> Iterator[Check]:
    database = Database(configured.database_url, max_size=1)
    database.open()
    try:
        (server,) = database.all("examine_server")
        here = time.time()
        yield Check("database", "ok", f"PostgreSQL {server['version']}, pgvector {server['pgvector'] or 'not enabled'}")
        yield from _clock("database", server["now"].timestamp(), here)
        yield from _migrations(database)
        yield from _dumping(int(server["version"].partition(".")[0]))
    except Unavailable as error:
        advice = "start it: make run" if configured.embedded_database else "start it, or set DATABASE_URL right"
        yield Check("database", "PROBLEM", settings.unreachable(configured, error), advice)
    finally:
        database.close()


def _migrations(database: Database) -> Iterator[Check]:
    try:
        missing = pending({row["name"] for row in database.all("applied_migrations")})
    except Unavailable:
        missing = pending(set())  # there is no such table
    if missing:
        said = f"{len(missing)} missing, the first is {missing[0].stem}"
        yield Check("migrations", "PROBLEM", said, "run: python -m jobs.store.migrate")


def _dumping(server_version: int) -> Iterator[Check]:
    try:
        asyncio.run(backup.fit_program(server_version))
    except backup.BackupError as error:
        yield Check("backups", "PROBLEM", str(error), "or back up by other means, and pause the schedule")


def _redis(configured: Settings) -> Iterator[Check]:
    connection = connect_redis(configured.redis_url)
    try:
        info: dict[str, Any] = connection.info()
        seconds, micros = connection.time()
    except RedisError as error:
        advice = "start it, or set REDIS_URL right"
        if configured.embedded_redis:
            advice = "start it: make run" if redis_server() else MISSING_REDIS
        yield Check("Redis", "PROBLEM", f"cannot be reached: {error}", advice)
        return
    finally:
        connection.close()
    version = str(info["redis_version"])
    if tuple(map(int, version.split(".")[:2])) < _LEAST_REDIS:
        yield Check("Redis", "PROBLEM", f"is {version}", "use 6.2 or newer")
    elif str(info.get("maxmemory_policy", "noeviction")) != "noeviction":
        said = f"{version} may throw away what waits: maxmemory-policy is {info['maxmemory_policy']}"
        yield Check("Redis", "NOTE", said, "set it to noeviction; what is lost is announced again, but late")
    else:
        yield Check("Redis", "ok", version)
    yield from _clock("Redis server", seconds + micros / 1e6, time.time())


def _files(configured: Settings) -> Iterator[Check]:
    here = next(path for path in (configured.backup_dir, *configured.backup_dir.resolve().parents) if path.exists())
    free = shutil.disk_usage(here).free
    if free < _ROOM_BYTES:
        yield Check("disk", "PROBLEM", f"{free // 1024**2} MB are free in {here}", "make room")
    newest = max((path.stat().st_mtime for path in configured.backup_dir.glob("pressroom-*.dump")), default=None)
    if newest is None:
        yield Check("backups", "NOTE", f"there is none in {configured.backup_dir}", "make one: pressroom backup")
    elif time.time() - newest > _BACKUP_DAYS * 86_400:
        days = (time.time() - newest) / 86_400
        said = f"the newest is {days:.0f} days old"
        yield Check("backups", "PROBLEM", said, "see what became of the schedule: pressroom schedules 1")
    else:
        yield Check("backups", "ok", f"the newest is {(time.time() - newest) / 3600:.0f} hours old")


def _endpoints(configured: Settings) -> Iterator[Check]:
    found = catalog.endpoints(configured)
    if not found:
        said = "none is set: answers come from the offline provider"
        yield Check("endpoint", "NOTE", said, "set LLM_BASE_URL (and LLM_API_KEY), or PROVIDERS_FILE")
    for endpoint in found:
        yield _endpoint(endpoint)


def _endpoint(endpoint: catalog.Endpoint) -> Check:
    name = f"endpoint {endpoint.name}"
    headers = {"Authorization": f"Bearer {endpoint.api_key}"} if endpoint.api_key else {}
    try:
        url = f"{endpoint.base_url.rstrip('/')}/models"
        answer = httpx.get(url, headers=headers, timeout=_ENDPOINT_SECONDS)
    except httpx.HTTPError as error:
        advice = "is its address right, and does a firewall or proxy (HTTPS_PROXY) let us there?"
        return Check(name, "PROBLEM", f"{endpoint.base_url} does not answer: {error or type(error).__name__}", advice)
    if answer.status_code in (401, 403):
        said = f"{endpoint.base_url} refuses the key ({answer.status_code})"
        return Check(name, "PROBLEM", said, "set LLM_API_KEY, or the key in PROVIDERS_FILE")
    if answer.is_error:
        said = f"{endpoint.base_url} answers {answer.status_code} to a question for its models"
        return Check(name, "NOTE", said, "some have no such list; a short task tells: pressroom submit --wait hello")
    return Check(name, "ok", f"{endpoint.base_url} answers")
