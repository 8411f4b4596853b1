"""rq-dashboard at /rq, reading JSON instead of pickle, and changing nothing it should not.

rq-dashboard 0.9 looks RQ's classes up in its own module and reads jobs with pickle, which would let
whoever can write to Redis run code here. It gets our classes in their place; a job's description is a
fixed text, because its pages show it unescaped.
"""

import functools
from collections.abc import Callable
from typing import Any

import rq_dashboard.web
from flask import Flask
from rq.exceptions import NoSuchJobError
from rq.serializers import JSONSerializer
from rq.worker import Worker

from api import services
from api.at_hand import the_request
from api.dashboard_pages import StrictPages
from api.errors import abort
from jobs.queues import TaskJob, TaskQueue

PREFIX = "/rq"
# It offers to delete, compact and requeue (by GET, too) what only PostgreSQL may decide about.
_REFUSED = frozenset(
    f"rq_dashboard.{view}" for view in ("delete_job_view", "requeue_all", "empty_queue", "compact_queue")
)


class DashboardWorker(Worker):
    """A worker as the dashboard reads it."""

    job_class = TaskJob
    queue_class = TaskQueue

    def get_current_job(self) -> Any:
        """The task it shows as running; None when the task ended meanwhile."""
        try:
            return super().get_current_job()
        except NoSuchJobError:
            return None


def _requeue(job_id: str, **_: Any) -> None:
    """The dashboard's requeue button: an explicit retry of the task."""
    services.get().manager.retry(int(job_id))


def has(endpoint: str) -> bool:
    """Whether this is one of the dashboard's views."""
    return endpoint.startswith("rq_dashboard.")


def register(app: Flask) -> None:
    """Mount the dashboard."""
    rq_dashboard.web.Job = TaskJob
    rq_dashboard.web.Queue = TaskQueue
    rq_dashboard.web.Worker = DashboardWorker
    rq_dashboard.web.requeue_job = _requeue
    rq_dashboard.web.config.serializer = JSONSerializer
    # It would connect anew on every request, and knows no Unix sockets.
    rq_dashboard.web.from_url = lambda *_, **__: (None, services.get().doorbell.connection)
    app.config.update(RQ_DASHBOARD_DISABLE_DELETE=True, RQ_DASHBOARD_REDIS_URL=("redis",))
    app.redis_conn = app.extensions["pressroom"].doorbell.connection  # type: ignore[attr-defined]

    @app.before_request
    def guard() -> None:
        request = the_request()
        if not has(request.endpoint or ""):
            return
        if request.endpoint in _REFUSED:
            abort(405, message="Tasks are cancelled and retried over the API; the dashboard only looks.")
        if (request.view_args or {}).get("instance_number"):
            abort(404, message="There is one Redis, number 0.")

    app.jinja_env.add_extension(StrictPages)
    app.register_blueprint(rq_dashboard.web.blueprint, url_prefix=PREFIX)
    for endpoint, view in app.view_functions.items():
        if has(endpoint):
            app.view_functions[endpoint] = _forgiving(view)


def _forgiving(view: Callable[..., Any]) -> Callable[..., Any]:
    """A view of the dashboard; what it stumbles over (a job that is gone, numbers that are none) is not found."""

    @functools.wraps(view)
    def look(*args: Any, **kwargs: Any) -> Any:
        try:
            return view(*args, **kwargs)
        except (NoSuchJobError, LookupError, ValueError, UnboundLocalError, ZeroDivisionError):
            abort(404, message="There is no such job, queue or page (any more).")

    return look
