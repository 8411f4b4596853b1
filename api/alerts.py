"""/api/v1/alerts: what operators are, or were, told of."""

from typing import Any

from marshmallow import fields, validate

from api.bodies import Answer, Blueprint
from api.paging import Paging, page_of, shown_by, sort_field
from jobs.store import listing
from scheduler.alerts.rules import EVERY

blueprint = Blueprint("alerts", __name__, url_prefix="/api/v1/alerts", description="What is wrong, and what was")

STATUSES = ("OPEN", "RESOLVED", "NOTED")
_RULES = sorted(rule.name for rule in EVERY)


class AlertSchema(Answer):
    """An alert as returned."""

    id = fields.Integer()
    rule = fields.String(validate=validate.OneOf(_RULES))
    subject = fields.String(metadata={"description": "Which of the rule's problems, as a queue's name."})
    level = fields.String(validate=validate.OneOf(["info", "warning", "error", "critical"]))
    title = fields.String()
    message = fields.String()
    status = fields.String(
        validate=validate.OneOf(STATUSES),
        metadata={"description": "OPEN while it lasts, then RESOLVED; NOTED is what happened, and was over at once."},
    )
    opened_at = fields.AwareDateTime()
    closed_at = fields.AwareDateTime(allow_none=True)
    told_at = fields.AwareDateTime(allow_none=True, metadata={"description": "When ALERT_WEBHOOK_URL took it."})


class AlertQuery(Paging):
    """The query of the list."""

    status = fields.String(validate=validate.OneOf(STATUSES))
    rule = fields.String(validate=validate.OneOf(_RULES))
    sort = sort_field(listing.ALERTS)


shown = shown_by(AlertSchema)
"""An alert's row as the API returns it."""


@blueprint.get("")
@blueprint.arguments(AlertQuery, location="query", unknown="raise")
@blueprint.response(200, AlertSchema(many=True))
def list_alerts(query: dict[str, Any]) -> Any:
    """Alerts, newest first: open ones and those of the past."""
    return page_of(listing.ALERTS, query, shown)
