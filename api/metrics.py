"""/metrics for Prometheus: this server's HTTP timings, and all about tasks from PostgreSQL.

Under gunicorn, every web process writes its timings into one directory, so that whichever is asked answers for all.
"""

import time
from functools import lru_cache
from typing import Any

from flask import Flask, Response
from prometheus_client import (
    CollectorRegistry,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from api import services
from api.at_hand import the_notes, the_request
from api.bodies import Blueprint
from api.collector import TaskCollector
from jobs.settings import shared_metrics

blueprint = Blueprint("metrics", __name__, description="Numbers for Prometheus")

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_EXAMPLE = 'pressroom_queue_depth{queue="low"} 3.0\n'

disable_created_metrics()  # type: ignore[no-untyped-call]
_http = CollectorRegistry()
_TIMINGS = Histogram(
    "pressroom_http_request_duration_seconds",
    "Time until the answer began",
    ("method", "endpoint", "status"),
    buckets=_BUCKETS,
    registry=_http,
)
_IN_FLIGHT = Gauge(
    "pressroom_http_requests_in_flight", "Requests being answered", multiprocess_mode="livesum", registry=_http
)


def register(app: Flask) -> None:
    """Time every request, also those that are refused."""

    @app.before_request
    def begin() -> None:
        the_notes().metrics_began = time.perf_counter()
        _IN_FLIGHT.inc()

    @app.after_request
    def timed(response: Response) -> Response:
        request = the_request()
        method = request.method if request.method in _METHODS else "other"
        endpoint = request.url_rule.rule if request.url_rule else "none"
        _timings_of(method, endpoint, response.status_code).observe(time.perf_counter() - the_notes().metrics_began)
        return response

    @app.teardown_request
    def end(_error: BaseException | None) -> None:
        _IN_FLIGHT.dec()


@lru_cache(1000)
def _timings_of(method: str, endpoint: str, status: int) -> Histogram:
    # Each `labels` would make texts of them, and look for these under a lock.
    return _TIMINGS.labels(method, endpoint, status)


def forget_process(pid: int) -> None:
    """A web process that has ended has no requests in flight."""
    multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]


@blueprint.get("/metrics")
@blueprint.response(200, {"type": "string"}, content_type="text/plain", example=_EXAMPLE)
def metrics() -> Any:
    """Everything in Prometheus's text format; the same from every web process."""
    tools = services.get()
    tasks = CollectorRegistry()
    tasks.register(TaskCollector(tools.database, tools.doorbell, tools.prices, tools.depths))
    http = _http
    if shared_metrics():
        http = CollectorRegistry()
        multiprocess.MultiProcessCollector(http)  # type: ignore[no-untyped-call]
    return Response(generate_latest(http) + generate_latest(tasks), content_type=CONTENT_TYPE_PLAIN_0_0_4)
