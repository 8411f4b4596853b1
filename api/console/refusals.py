"""Errors as pages, for people: what the API would have said, in their language where there are words for it."""

from flask import Flask, Response, request

from api.auth import wants_page
from api.console.frame import show
from api.console.language import gettext as _


def _heading(status: int) -> str:
    headings = {
        401: _("Log in first"),
        403: _("Your key may not do this"),
        404: _("There is no such page"),
        422: _("This address does not fit"),
        429: _("Too many requests"),
        503: _("Not reachable right now"),
    }
    return headings.get(status, _("Something went wrong"))


def _advice(status: int) -> str:
    advice = {
        401: _("Your session has ended, or there was none."),
        403: _("Ask an administrator for a key with a larger scope, or log in with another one."),
        404: _("It may have been removed when its time was over."),
        422: _("Something in the address, a filter perhaps, is not understood."),
        429: _("Wait a moment, then load the page again."),
        503: _("Pressroom cannot reach its database. No task is lost; load the page again soon."),
    }
    return advice.get(status, _("The log has the details, under the number of this request."))


def _is_visit() -> bool:
    """Whether a person opened a page of ours, or an address that nobody knows."""
    endpoint = request.endpoint or ""
    ours = endpoint.startswith("console.") or endpoint in ("meta.index", "meta.docs")
    unknown = not endpoint and not request.path.startswith("/api/")
    return (ours or unknown) and request.method in ("GET", "HEAD") and wants_page()


def register(app: Flask) -> None:
    """Put a page in the place of an error's JSON."""

    @app.after_request
    def as_page(response: Response) -> Response:
        status = response.status_code
        if status < 400 or response.mimetype != "application/json" or not _is_visit():
            return response
        said = response.get_json().get("message", "")
        response.set_data(
            show("refused.html", heading=_heading(status), advice=_advice(status), said=said, status=status)
        )
        response.mimetype = "text/html"
        return response
