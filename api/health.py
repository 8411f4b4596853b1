"""Liveness, readiness and workers."""

from datetime import UTC, datetime
from typing import Any

import structlog
from flask import jsonify
from marshmallow import fields

from api import services
from api.bodies import Answer, Blueprint
from api.paging import shown_by
from jobs import __version__
from jobs.beats import LEASE_SECONDS
from jobs.errors import Unavailable
from jobs.queues import RedisError
from jobs.store.database import Row

blueprint = Blueprint("health", __name__, description="Is it alive, is it ready")

log = structlog.get_logger(__name__)


class Liveness(Answer):
    """The process answers."""

    status = fields.String()
    app_name = fields.String()
    version = fields.String()
    timestamp = fields.AwareDateTime()


class Readiness(Answer):
    """What it needs answers, too."""

    status = fields.String(metadata={"enum": ["healthy", "unhealthy"]})
    redis = fields.Boolean()
    database = fields.Boolean()
    workers = fields.Integer()
    scheduler = fields.Boolean()
    next_firing = fields.AwareDateTime(allow_none=True)
    has_today_schedule = fields.Boolean()
    timestamp = fields.AwareDateTime()


class WorkerSchema(Answer):
    """A worker that beats."""

    name = fields.String()
    host = fields.String()
    queues = fields.List(fields.String())
    running = fields.Integer()
    capacity = fields.Integer()
    last_heartbeat = fields.AwareDateTime()


class Workers(Answer):
    """All of them."""

    status = fields.String(metadata={"enum": ["healthy", "unhealthy"]})
    workers = fields.List(fields.Nested(WorkerSchema))
    active_tasks = fields.Integer()


_shown = shown_by(WorkerSchema)


def _now() -> datetime:
    return datetime.now(UTC)


@blueprint.get("/api/v1/health")
@blueprint.response(200, Liveness)
def liveness() -> Any:
    """Whether the process answers; touches nothing else."""
    return jsonify(status="healthy", app_name="Pressroom", version=__version__, timestamp=_now())


def state() -> dict[str, Any]:
    """What is there of what tasks need."""
    processes: list[Row] = []
    next_firing: datetime | None = None
    has_today_schedule = False
    database = redis = True
    tools = services.get()
    try:
        with tools.database.transaction() as session:
            processes = session.all("alive", {"lease": LEASE_SECONDS})
            firings = session.all("next_firings", {"limit": 1})
            (today,) = session.all("has_daily_life", {"zone": tools.settings.tz_default})
        next_firing = firings[0]["next_slot"] if firings else None
        has_today_schedule = today["found"]
    except Unavailable as error:
        log.warning("database unavailable", reason=str(error))
        database = False
    try:
        tools.doorbell.ping()
    except RedisError as error:
        log.warning("redis unavailable", reason=str(error))
        redis = False
    kinds = [process["kind"] for process in processes]
    healthy = database and redis and "scheduler" in kinds
    return {
        "status": "healthy" if healthy else "unhealthy",
        "redis": redis,
        "database": database,
        "workers": kinds.count("worker"),
        "scheduler": "scheduler" in kinds,
        "next_firing": next_firing,
        "has_today_schedule": has_today_schedule,
        "timestamp": _now(),
    }


@blueprint.get("/health")
@blueprint.response(200, Readiness)
@blueprint.alt_response(503, schema=Readiness, description="PostgreSQL, Redis or the scheduler is away")
def readiness() -> Any:
    """Whether everything that tasks need is there."""
    found = state()
    return jsonify(found), 200 if found["status"] == "healthy" else 503


@blueprint.get("/health/workers")
@blueprint.response(200, Workers)
def workers() -> Any:
    """The workers that beat, and what they hold."""
    processes = services.get().database.all("alive", {"lease": LEASE_SECONDS})
    alive = [process for process in processes if process["kind"] == "worker"]
    return jsonify(
        status="healthy" if alive else "unhealthy",
        workers=[_shown(worker) for worker in alive],
        active_tasks=sum(worker["running"] for worker in alive),
    )
