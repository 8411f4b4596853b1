"""What every part of the benchmark uses: the servers, the endpoint, rounds in turn, and the figures they give."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx
import redis

from deploy import embedded
from jobs.settings import embedded_urls
from tests.support.instance import ROOT, clean_environment, free_port
from tests.support.waiting import wait_until

PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
ANSWER_BYTES = 1500
_PEER_SECONDS = 90.0
_PIPE = subprocess.PIPE

Measured = Mapping[str, float]
"""What one round of one contestant gave: the name of each figure, with its unit in brackets."""


class NotMeasured(Exception):
    """Why there is no figure, in words for the table."""


@dataclass
class Figures:
    """Of one contestant, one load: the values of each round."""

    part: str
    load: str
    who: str
    values: dict[str, list[float]] = field(default_factory=dict)
    missing: str = ""

    def add(self, measured: Measured) -> None:
        """Those of another round."""
        for name, value in measured.items():
            self.values.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        """Of all rounds."""
        return statistics.median(self.values[name])


@dataclass
class Curve:
    """A plot's line: how a figure grows with something."""

    plot: str
    x_axis: str
    y_axis: str
    who: str
    points: list[tuple[float, list[float]]] = field(default_factory=list)


@dataclass
class Contestant:
    """Who is measured under which load, and how."""

    load: str
    who: str
    measure: Callable[[], Measured]


@dataclass
class Bench:
    """One run.

    Attributes:
        scale: of all counts; below 1 for trying out the benchmark itself.
        redis_url: of Pressroom; peers have another database of the same server.
        endpoint: a model that answers after a second.
    """

    rounds: int
    scale: float
    data_dir: Path
    redis_url: str
    postgres_url: str
    endpoint: str
    part: str = ""
    figures: list[Figures] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def count(self, number: int, least: int = 1) -> int:
        """A number of tasks, scaled."""
        return max(least, int(number * self.scale))

    def compare(self, contestants: Sequence[Contestant]) -> list[Figures]:
        """Every contestant once, then every one again..., so that a noisy minute meets them all."""
        found = [Figures(self.part, contestant.load, contestant.who) for contestant in contestants]
        self.figures += found
        for number in range(1, self.rounds + 1):
            for contestant, figures in zip(contestants, found, strict=True):
                if figures.missing:
                    continue
                try:
                    measured = contestant.measure()
                except NotMeasured as reason:
                    figures.missing = str(reason)
                    say(f"  {contestant.who}: {contestant.load}: not measured: {reason}")
                    continue
                figures.add(measured)
                told = ", ".join(f"{name} {value:.4g}" for name, value in measured.items())
                say(f"  {number}/{self.rounds} {contestant.who}: {contestant.load}: {told}")
        return found

    def record(self, load: str, who: str, *rounds: Measured) -> None:
        """Figures that were measured otherwise."""
        figures = Figures(self.part, load, who)
        for measured in rounds:
            figures.add(measured)
        self.figures.append(figures)
        told = ", ".join(f"{name} {figures.median(name):.4g}" for name in figures.values)
        say(f"  {who}: {load}: {told}")

    def draw(self, curve: Curve) -> None:
        """Have a curve drawn; its points are figures, too."""
        self.curves.append(curve)
        for place, rounds in curve.points:
            load = f"{place:,.0f} {curve.x_axis}"
            self.figures.append(Figures(self.part, curve.plot, load, {curve.y_axis: rounds}))

    def peer(self, module: str, load: str, **options: Any) -> dict[str, float]:
        """What a peer's script says of itself: a line of JSON, its last.

        Raises:
            NotMeasured: it is not installed, or failed.
        """
        command = [str(PEERS_PYTHON), "-m", f"tests.benchmarks.peers.{module}", load]
        env = self.peer_environment(**options)
        with subprocess.Popen(command, cwd=ROOT, env=env, stdout=_PIPE, stderr=_PIPE, text=True) as process:
            try:
                out, err = process.communicate(timeout=_PEER_SECONDS)
            except subprocess.TimeoutExpired:
                raise NotMeasured(f"not done within {_PEER_SECONDS:g} s") from None
            finally:
                process.terminate()  # it sees to what it started
        if process.returncode:
            raise NotMeasured((err.strip().splitlines() or ["it failed without a word"])[-1])
        said: dict[str, float] = json.loads(out.strip().splitlines()[-1])
        return said

    def peer_environment(self, **options: Any) -> dict[str, str]:
        """What peers know of the benchmark; Redis is emptied for them.

        Raises:
            NotMeasured: they are not installed.
        """
        if not PEERS_PYTHON.exists():
            raise NotMeasured("the peers are not installed; `make bench` does that, given a network")
        with redis.Redis.from_url(self.redis_url) as client:
            client.flushall()
        servers = {"redis": self.redis_url, "endpoint": self.endpoint, "postgres": self.postgres_url}
        return clean_environment(BENCH_OPTIONS=json.dumps({**servers, **options}))


def say(text: str) -> None:
    """To whoever waits for the table."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@contextmanager
def servers(data_dir: Path) -> Iterator[tuple[str, str]]:
    """PostgreSQL and Redis as `make run` starts them, with the same settings; yields their URLs."""
    with ExitStack() as stack:
        stack.enter_context(_process(embedded.prepare_redis(data_dir)))
        log = stack.enter_context((data_dir / "postgres.log").open("wb"))
        stack.enter_context(_process(embedded.prepare_postgres(data_dir), log))
        wait_until(lambda: embedded.redis_answers(data_dir), "Redis answers")
        wait_until(lambda: embedded.postgres_answers(data_dir), "PostgreSQL answers")
        postgres_url, redis_url = embedded_urls(data_dir)
        yield postgres_url, redis_url


@contextmanager
def _process(server: embedded.Server, log: "IO[bytes] | int" = subprocess.DEVNULL) -> Iterator[None]:
    process = subprocess.Popen(server.command, cwd="/", stdout=log, stderr=log, **server.identity)
    try:
        yield
    finally:
        process.send_signal(server.stop_signal)
        process.wait(60)


@contextmanager
def endpoint(delay: float = 1.0) -> Iterator[str]:
    """A model's endpoint in a process of its own; yields its base URL."""
    port = free_port()
    options = ["--port", str(port), "--delay", str(delay), "--padding", str(ANSWER_BYTES)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.model_server", *options], cwd=ROOT, env=clean_environment()
    )
    try:
        wait_until(lambda: _answers(f"http://127.0.0.1:{port}/"), "the endpoint answers")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(20)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 404
    except httpx.TransportError:
        return False
