"""What Prometheus is told about tasks, queues, workers and the scheduler: read from PostgreSQL when it asks."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from jobs.beats import LEASE_SECONDS
from jobs.depths import Depths
from jobs.errors import Unavailable
from jobs.prices import Prices
from jobs.priority import QUEUES
from jobs.queues import Doorbell, RedisError
from jobs.statistics import histogram
from jobs.store.database import Database, Row, Session

log = structlog.get_logger(__name__)

_DOUBLINGS = (-7, -5, -3, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12)  # seconds: 2 to the power of these
_TOKEN_KINDS = ("prompt", "completion")

Labelled = tuple[Sequence[str], float]


class TaskCollector(Collector):
    """One scrape."""

    def __init__(self, database: Database, doorbell: Doorbell, prices: Prices, depths: Depths) -> None:
        self._database = database
        self._doorbell = doorbell
        self._prices = prices
        self._depths = depths

    def collect(self) -> Iterable[Metric]:
        """What can be told; while PostgreSQL is away, that it is."""
        up = GaugeMetricFamily("pressroom_up", "Whether each part can be reached", labels=("part",))
        found: list[Metric] = [up]
        try:
            with self._database.transaction() as session:
                for collect in self._parts():
                    found += collect(session)
            up.add_metric(("database",), 1)
        except Unavailable as error:
            log.warning("database unavailable", reason=str(error))
            found = [up]
            up.add_metric(("database",), 0)
        try:
            self._doorbell.ping()
            up.add_metric(("redis",), 1)
        except RedisError:
            up.add_metric(("redis",), 0)
        return found

    def _parts(self) -> Iterable[Callable[[Session], Iterator[Metric]]]:
        return _ends, _durations, self._tokens, self._queues, _processes, _callbacks

    def _tokens(self, session: Session) -> Iterator[Metric]:
        rows = session.all("tokens_ever")
        yield _counter(
            "pressroom_tokens",
            "Tokens that tasks have used",
            ("model", "kind"),
            (((row["model"], kind), row[f"{kind}_tokens"]) for row in rows for kind in _TOKEN_KINDS),
        )
        prices = self._prices.by_model.items()
        yield _gauge(
            "pressroom_token_price",
            "Price of a million tokens",
            ("model", "kind", "currency"),
            (
                ((model, kind, self._prices.currency), amount)
                for model, price in prices
                for kind, amount in zip(_TOKEN_KINDS, (price.input, price.output), strict=True)
            ),
        )
        money = {
            row["model"]: self._prices.money(row["model"], row["prompt_tokens"], row["completion_tokens"])
            for row in rows
        }
        yield _gauge(
            "pressroom_cost",
            "What all tokens so far cost at the prices of now, for models with a price",
            ("model", "currency"),
            (((model, self._prices.currency), cost) for model, cost in money.items() if cost is not None),
        )

    def _queues(self, session: Session) -> Iterator[Metric]:
        found = {row["queue"]: row for row in self._depths.count(session)}
        for column, said in (
            ("depth", "Tasks that could be started now"),
            ("delayed", "Tasks whose time has not come"),
            ("oldest_age_seconds", "How long the task that waits longest could have been started"),
        ):
            values = (((queue,), found.get(queue, {}).get(column) or 0) for queue in QUEUES)
            yield _gauge(f"pressroom_queue_{column}", said, ("queue",), values)
        (blocked,) = session.all("count_blocked")
        yield _gauge("pressroom_tasks_blocked", "Tasks that wait for other tasks", (), [((), blocked["tasks"])])
        running = (((row["task_type"], row["queue"]), row["tasks"]) for row in session.all("count_running"))
        yield _gauge("pressroom_tasks_running", "Tasks being processed", ("task_type", "queue"), running)


def _ends(session: Session) -> Iterator[Metric]:
    rows = session.all("ends_ever")
    yield _counter(
        "pressroom_tasks_ended",
        "Tasks that ended; one that is retried by hand ends again",
        ("task_type", "status"),
        _summed(rows, ("task_type", "status"), "tasks"),
    )
    yield _counter(
        "pressroom_task_attempts",
        "Attempts that ended tasks took",
        ("task_type",),
        _summed(rows, ("task_type",), "attempts"),
    )
    yield _counter(
        "pressroom_task_errors",
        "Tasks that failed, by the code of their error",
        ("task_type", "code"),
        (((row["task_type"], row["error_code"]), row["tasks"]) for row in rows if row["status"] == "FAILED"),
    )


def _summed(rows: Iterable[Row], labels: Sequence[str], value: str) -> Iterable[Labelled]:
    sums: dict[Sequence[str], float] = {}
    for row in rows:
        key = tuple(row[label] for label in labels)
        sums[key] = sums.get(key, 0) + row[value]
    return sums.items()


def _durations(session: Session) -> Iterator[Metric]:
    rows = session.all("durations_ever")
    for which, name, said in (
        ("waited", "pressroom_task_waiting_seconds", "How long last attempts waited until they were started"),
        ("run", "pressroom_task_running_seconds", "How long last attempts ran"),
    ):
        family = HistogramMetricFamily(name, said, labels=("task_type",))
        for row in rows:
            times = histogram(row, which)
            family.add_metric((row["task_type"],), times.up_to(_DOUBLINGS), times.seconds)
        yield family


def _processes(session: Session) -> Iterator[Metric]:
    found = {row["kind"]: row for row in session.all("process_counts", {"lease": LEASE_SECONDS})}
    workers, schedulers = found.get("worker", {}), found.get("scheduler", {})
    (lag,) = session.all("clock_lag")
    for name, said, value in (
        ("workers", "Worker processes that beat", workers.get("alive", 0)),
        ("worker_slots", "Tasks that they could run at once", workers.get("capacity", 0)),
        ("worker_slots_used", "Tasks that they run", workers.get("running", 0)),
        ("schedulers", "Scheduler processes that beat", schedulers.get("alive", 0)),
        ("scheduler_beat_age_seconds", "Time since a scheduler process beat", schedulers.get("beat_age_seconds")),
        ("scheduler_lag_seconds", "How overdue the oldest slot of a schedule is", lag["lag"]),
    ):
        yield _gauge(f"pressroom_{name}", said, (), [] if value is None else [((), value)])


def _callbacks(session: Session) -> Iterator[Metric]:
    (found,) = session.all("count_callbacks")
    yield _gauge("pressroom_callbacks_pending", "Callbacks yet to be delivered", (), [((), found["pending"])])


def _gauge(name: str, said: str, labels: Sequence[str], values: Iterable[Labelled]) -> Metric:
    family = GaugeMetricFamily(name, said, labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family


def _counter(name: str, said: str, labels: Sequence[str], values: Iterable[Labelled]) -> Metric:
    family = CounterMetricFamily(name, said, labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family
