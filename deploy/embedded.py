"""PostgreSQL and Redis from Python wheels, as ordinary servers under DATA_DIR on Unix sockets.

For laptops and tests. Where DATABASE_URL and REDIS_URL are set, nothing of this runs.
"""

import os
import pwd
import secrets
import shutil
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import redis

from jobs.bundled import MISSING_REDIS, postgres_programs, redis_server
from jobs.settings import embedded_urls, run_dir

_UNPRIVILEGED = "nobody"
_POSTGRES_OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
}


@dataclass(frozen=True, slots=True)
class Server:
    """How to start one server, and how to ask whether it answers.

    Attributes:
        stop_signal: ends it quickly and cleanly.
        identity: keyword arguments for Popen when it must not run as root.
    """

    name: str
    command: list[str]
    stop_signal: int
    identity: Mapping[str, Any]


class EmbeddedError(Exception):
    """A server's files cannot be prepared; the message says why."""


def _installed(program: Path | None, otherwise: str) -> Path:
    if program is None:
        raise EmbeddedError(otherwise)
    return program


def _postgres_programs() -> Path:
    return _installed(postgres_programs(), "the embedded PostgreSQL is missing: pip install -r requirements.txt")


def prepare_postgres(data_dir: Path, options: Mapping[str, str] | None = None) -> Server:
    """Create the cluster when there is none, and say how to start it.

    Raises:
        EmbeddedError: initdb failed.
    """
    files, sockets = data_dir.resolve() / "postgres", run_dir(data_dir) / "postgres"
    identity, programs = _identity(), _postgres_programs()
    for directory in (files, sockets):
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
        if identity:
            os.chown(directory, identity["user"], identity["group"])
    if identity:
        for path in (files, sockets, programs):
            _let_others_traverse(path)
    if not (files / "PG_VERSION").exists():
        _init(programs, files, identity)
    settings = {**_POSTGRES_OPTIONS, "unix_socket_directories": str(sockets), **(options or {})}
    flags = [flag for name, value in settings.items() for flag in ("-c", f"{name}={value}")]
    command = [str(programs / "postgres"), "-D", str(files), *flags]
    return Server("postgres", command, stop_signal=2, identity=identity)  # SIGINT: fast shutdown


def prepare_redis(data_dir: Path, *options: str) -> Server:
    """Say how to start Redis: append-only file as a courtesy, socket only.

    Raises:
        EmbeddedError: there is none.
    """
    files, sockets = data_dir.resolve() / "redis", run_dir(data_dir)
    for directory in (files, sockets):
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(stat.S_IMODE(directory.stat().st_mode) | 0o700)
    command = [
        str(_installed(redis_server(), MISSING_REDIS)), "--port", "0", "--unixsocket", str(sockets / "redis.sock"),
        "--unixsocketperm", "700", "--dir", str(files), "--appendonly", "yes", "--appendfsync", "everysec",
        "--save", "", "--maxmemory-policy", "noeviction", "--loglevel", "warning", *options,
    ]  # fmt: skip
    return Server("redis", command, stop_signal=15, identity={})


def postgres_answers(data_dir: Path) -> bool:
    """Whether it takes connections; makes the database `pressroom` on the first one."""
    url = embedded_urls(data_dir)[0]
    try:
        with psycopg.connect(url.rsplit("/", 1)[0] + "/postgres", autocommit=True, connect_timeout=2) as connection:
            known = connection.execute("SELECT FROM pg_database WHERE datname = 'pressroom'").fetchone()
            if known is None:
                connection.execute("CREATE DATABASE pressroom")
    except psycopg.Error:
        return False
    return True


def redis_answers(data_dir: Path) -> bool:
    """Whether it takes commands (and has read its files)."""
    client = redis.Redis.from_url(embedded_urls(data_dir)[1], socket_timeout=2)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def stop_left_over(data_dir: Path) -> None:
    """End servers of this DATA_DIR that an earlier run, killed outright, left behind."""
    files = data_dir.resolve() / "postgres"
    # Only where it answers on our own socket: the process id in an old file may be a stranger's by now.
    if (files / "postmaster.pid").exists() and postgres_answers(data_dir):
        subprocess.run(
            [str(_postgres_programs() / "pg_ctl"), "stop", "-D", str(files), "-m", "fast", "-w", "-t", "20"],
            check=False, capture_output=True, cwd="/", **_identity(),
        )  # fmt: skip
    socket = run_dir(data_dir) / "redis.sock"
    if socket.exists():
        client = redis.Redis.from_url(embedded_urls(data_dir)[1], socket_timeout=5)
        try:
            client.shutdown()
        except redis.RedisError:
            socket.unlink(missing_ok=True)
        finally:
            client.close()


def _init(programs: Path, files: Path, identity: Mapping[str, Any]) -> None:
    # Built beside its place and renamed, so that an interrupted initdb is never taken for a cluster.
    fresh = files.with_name(f"postgres.{secrets.token_hex(4)}")
    fresh.mkdir(mode=0o700)
    if identity:
        os.chown(fresh, identity["user"], identity["group"])
    done = subprocess.run(
        [
            str(programs / "initdb"), "-D", str(fresh), "--username=postgres", "--auth=trust",
            "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync",
        ],
        check=False, capture_output=True, text=True, cwd="/", **identity,
    )  # fmt: skip
    if done.returncode:
        shutil.rmtree(fresh, ignore_errors=True)
        raise EmbeddedError(f"initdb failed: {done.stderr.strip() or done.stdout.strip()}")
    files.rmdir()
    fresh.rename(files)


def _identity() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: then, whom to run it as."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(_UNPRIVILEGED)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _let_others_traverse(path: Path) -> None:
    """Let the unprivileged user pass through (not list) the directories above `path`."""
    for directory in path.parents:
        mode = stat.S_IMODE(directory.stat().st_mode)
        if not mode & stat.S_IXOTH:
            directory.chmod(mode | stat.S_IXOTH)
