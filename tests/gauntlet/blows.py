"""What the gauntlet does to a cluster. Each blow returns when its harm is over, and raises where it could do none."""

import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import psutil
import redis

from jobs.beats import LEASE_SECONDS
from tests.gauntlet.cluster import SCHEDULERS, WEBS, WORKERS, Cluster, Process
from tests.support.waiting import wait_until

_PATIENCE_SECONDS = 40.0

Blow = Callable[[Cluster, random.Random], str]
"""Returns what it did."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of blow.

    Attributes:
        after: what its recovery is measured against: `worker`, `redis`, `postgres` or nothing special.
    """

    name: str
    blow: Blow
    after: str


KINDS: list[Kind] = []


def blow(after: str = "") -> Callable[[Blow], Blow]:
    """Add a kind of blow."""

    def add(function: Blow) -> Blow:
        KINDS.append(Kind(function.__name__, function, after))
        return function

    return add


def _kill_one(among: Callable[[], list[psutil.Process]], chance: random.Random) -> str:
    """One of these, as soon as there is any; says of how many."""

    def killed() -> str | None:
        if not (processes := among()):
            return None
        try:
            chance.choice(processes).kill()
        except psutil.NoSuchProcess:
            return None
        return f"one of {len(processes)}"

    return wait_until(killed, "there is a process to kill", _PATIENCE_SECONDS) or ""


# Processes


@blow()
def kill_web(cluster: Cluster, chance: random.Random) -> str:
    """The server, or the process that answers."""
    web = cluster.one(WEBS, chance)
    return f"{web.name}, {_kill_one(web.all, chance)}"


@blow("worker")
def kill_worker(cluster: Cluster, chance: random.Random) -> str:
    """With its children orphaned."""
    worker = cluster.one(WORKERS, chance)
    worker.send(signal.SIGKILL)
    return worker.name


@blow("worker")
def kill_both_workers(cluster: Cluster, _chance: random.Random) -> str:
    """At once."""
    for name in WORKERS:
        cluster.processes[name].send(signal.SIGKILL)
    return "both"


@blow()
def kill_member(cluster: Cluster, chance: random.Random) -> str:
    """A child of a worker, at work or not."""
    worker = cluster.one(WORKERS, chance)
    return _kill_one(lambda: worker.all()[1:], chance)


@blow()
def kill_scheduler(cluster: Cluster, chance: random.Random) -> str:
    """The acting one, or the other."""
    scheduler = cluster.one(SCHEDULERS, chance)
    scheduler.send(signal.SIGKILL)
    return scheduler.name


@blow("worker")
def suspend_worker(cluster: Cluster, chance: random.Random) -> str:
    """Past its lease; then it goes on."""
    worker = cluster.one(WORKERS, chance)
    worker.send_all(signal.SIGSTOP)
    time.sleep(LEASE_SECONDS + chance.uniform(3, 5))
    worker.send_all(signal.SIGCONT)
    return worker.name


@blow("worker")
def restart_all(cluster: Cluster, _chance: random.Random) -> str:
    """SIGTERM to everybody, as a deployment does."""
    for name in (*WEBS, *WORKERS, *SCHEDULERS):
        cluster.processes[name].send(signal.SIGTERM)
    return "all"


@blow()
def kill_at_commit(cluster: Cluster, chance: random.Random) -> str:
    """Right after PostgreSQL committed something of theirs, and before they know."""
    name = chance.choice((*WEBS, *WORKERS, *SCHEDULERS))
    victims = cluster.processes[name].all()
    done = threading.Event()

    def kill() -> None:
        # The web server's children hold its connections.
        for victim in victims:
            with suppress(psutil.NoSuchProcess):
                victim.kill()
        done.set()

    with cluster.proxies.at_commit(f"{name} postgres", chance.randint(1, 20), kill):
        assert done.wait(_PATIENCE_SECONDS), f"{name} had nothing committed"
    return name


# Redis


@blow("redis")
def kill_redis(cluster: Cluster, _chance: random.Random) -> str:
    """It comes back with what it had a second ago."""
    cluster.processes["redis"].send(signal.SIGKILL)
    return ""


@blow("redis")
def empty_redis(cluster: Cluster, _chance: random.Random) -> str:
    """It goes on with nothing."""
    with suppress(redis.RedisError):
        cluster.redis.flushall()
    return ""


@blow("redis")
def kill_and_empty_redis(cluster: Cluster, _chance: random.Random) -> str:
    """It comes back with nothing."""
    with suppress(redis.RedisError):
        cluster.redis.flushall()
    cluster.processes["redis"].send(signal.SIGKILL)
    return ""


@blow("redis")
def suspend_redis(cluster: Cluster, chance: random.Random) -> str:
    """It hangs."""
    return _suspended(cluster.processes["redis"], chance)


def _suspended(process: Process, chance: random.Random) -> str:
    process.send_all(signal.SIGSTOP)
    seconds = chance.uniform(2, 5)
    time.sleep(seconds)
    process.send_all(signal.SIGCONT)
    return f"{seconds:.1f} s"


# PostgreSQL


@blow("postgres")
def kill_postgres(cluster: Cluster, _chance: random.Random) -> str:
    """The server."""
    cluster.processes["postgres"].send(signal.SIGKILL)
    return ""


@blow("postgres")
def kill_backend(cluster: Cluster, chance: random.Random) -> str:
    """One of its processes, upon which it restarts itself."""
    return _kill_one(lambda: cluster.processes["postgres"].all()[1:], chance)


@blow("postgres")
def restart_postgres(cluster: Cluster, _chance: random.Random) -> str:
    """As an administrator does."""
    cluster.processes["postgres"].send(signal.SIGINT)
    return ""


@blow("postgres")
def suspend_postgres(cluster: Cluster, chance: random.Random) -> str:
    """It hangs, with all its processes."""
    return _suspended(cluster.processes["postgres"], chance)


# The network


def _trouble(cluster: Cluster, chance: random.Random, end: str) -> str:
    state = chance.choice(["cut", "silent"])
    seconds = chance.uniform(2, 5)
    cluster.proxies.set(end, "cut" if state == "cut" else "silent")
    time.sleep(seconds)
    cluster.proxies.set(end, "open")
    return f"{state} for {seconds:.1f} s"


@blow("redis")
def cut_redis(cluster: Cluster, chance: random.Random) -> str:
    """From everybody."""
    return _trouble(cluster, chance, " redis")


@blow("postgres")
def cut_postgres(cluster: Cluster, chance: random.Random) -> str:
    """From everybody."""
    return _trouble(cluster, chance, " postgres")


@blow("worker")
def part_worker(cluster: Cluster, chance: random.Random) -> str:
    """From PostgreSQL, past its lease, while it could go on with all else."""
    name = chance.choice(WORKERS)
    state = chance.choice(["cut", "silent"])
    cluster.proxies.set(f"{name} postgres", "cut" if state == "cut" else "silent")
    time.sleep(LEASE_SECONDS + 4)
    cluster.proxies.set(f"{name} postgres", "open")
    return f"{name}, {state}"


# The disk


def _full_disk(server: Process, chance: random.Random) -> str:
    """No file may grow: what a full disk does, for this server alone."""
    server.limit_files(1)
    seconds = chance.uniform(3, 6)
    time.sleep(seconds)
    server.limit_files(-1)
    return f"{seconds:.1f} s"


@blow("postgres")
def fill_disk_of_postgres(cluster: Cluster, chance: random.Random) -> str:
    """It can write nothing, its log of changes neither."""
    return _full_disk(cluster.processes["postgres"], chance)


@blow("redis")
def fill_disk_of_redis(cluster: Cluster, chance: random.Random) -> str:
    """It refuses writes, as its append-only file cannot grow."""
    return _full_disk(cluster.processes["redis"], chance)


# The endpoint


@blow()
def endpoint_misbehaves(cluster: Cluster, chance: random.Random) -> str:
    """It hangs, drops connections, answers garbage, is busy or broken."""
    mood = chance.choice(["hang", "drop", "garbage", "busy", "broken"])
    cluster.model.put(f"/mood/{mood}")
    time.sleep(chance.uniform(2, 4))
    cluster.model.put("/mood/well")
    return mood
