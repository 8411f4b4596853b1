"""Administrative acts on record, and /api/v1/audit to read them.

Views have transactions of their own, some several, so a row cannot join them all. Instead it is committed before the
act begins, and says how it ended afterwards: an act without its row cannot be, and one whose process died shows as
ATTEMPTED. When the row cannot be written, the act is not begun (503).
"""

from typing import Any

import structlog
from flask import Flask, Response, g, request
from marshmallow import fields, validate

from api import services
from api.at_hand import the_notes, the_request
from api.auth import SAFE, SECRETS, is_login, needed
from api.bodies import Answer, Blueprint
from api.paging import Paging, page_of, shown_by, sort_field
from api.schemas import UtcDateTime
from jobs.audit import OUTCOMES, outcome_of, record
from jobs.errors import Unavailable
from jobs.fields import Text, storable
from jobs.store import listing

blueprint = Blueprint("audit", __name__, url_prefix="/api/v1/audit", description="Who did what only administrators may")

log = structlog.get_logger(__name__)


def facts(**more: Any) -> dict[str, Any]:
    """What `record` wants to know of this request."""
    rule = request.url_rule.rule if request.url_rule else request.path
    known = {
        "who": g.key.name if g.key else "open",
        "key_prefix": g.key.prefix if g.key else "",
        "action": f"{request.method} {rule}",
        # What a path may hold, a text in PostgreSQL may not.
        "object": storable(" ".join(f"{name}={value}" for name, value in (request.view_args or {}).items())),
        "request_id": g.request_id,
        "client": request.remote_addr,
    }
    if "status_code" in more:
        known["outcome"] = outcome_of(more["status_code"])
    return {**known, **more}


def register(app: Flask) -> None:
    """Put what administrators do on record; to be called after `api.auth.register`."""

    @app.before_request
    def attempted() -> None:
        request, notes = the_request(), the_notes()
        notes.audit_id = None
        changes = request.method not in SAFE and needed() == "admin"
        if (changes or request.endpoint in SECRETS) and request.endpoint and not is_login():
            with services.get().database.transaction() as session:
                notes.audit_id = record(session, **facts(outcome="ATTEMPTED"))

    @app.after_request
    def ended(response: Response) -> Response:
        if number := the_notes().get("audit_id"):
            outcome = {"outcome": outcome_of(response.status_code), "status_code": response.status_code}
            made = response.headers.get("Location") if response.status_code == 201 else None
            try:
                services.get().database.all("audit_outcome", {"id": number, "object": made, **outcome})
            except Unavailable as error:
                log.error("outcome not on record", audit_id=number, reason=str(error), **outcome)
        return response


class AuditSchema(Answer):
    """An act as returned."""

    id = fields.Integer()
    created_at = fields.AwareDateTime()
    who = fields.String(
        metadata={"description": "A key's name; `open`: without keys; `cli`: the command line; empty: a failed login."}
    )
    key_prefix = fields.String(metadata={"description": "Of keys that were made; empty for those in API_KEYS."})
    action = fields.String(metadata={"example": "DELETE /api/v1/accounts/<id:account_id>"})
    object = fields.String(metadata={"example": "account_id=7"})
    request_id = fields.String(allow_none=True)
    client = fields.String(allow_none=True, metadata={"description": "The address that the request came from."})
    outcome = fields.String(
        validate=validate.OneOf(OUTCOMES),
        metadata={"description": "ATTEMPTED: it began, and the process ended before it could say how it went."},
    )
    status_code = fields.Integer(allow_none=True)


class AuditQuery(Paging):
    """The query of the list."""

    who = Text()
    action = Text()
    outcome = fields.String(validate=validate.OneOf(OUTCOMES))
    created_after = UtcDateTime()
    created_before = UtcDateTime()
    sort = sort_field(listing.AUDIT)


shown = shown_by(AuditSchema)
"""An act's row as the API returns it."""


@blueprint.get("")
@blueprint.arguments(AuditQuery, location="query", unknown="raise")
@blueprint.response(200, AuditSchema(many=True))
def list_audit(query: dict[str, Any]) -> Any:
    """Administrative acts and logins, newest first; for administrators only."""
    return page_of(listing.AUDIT, query, shown)
