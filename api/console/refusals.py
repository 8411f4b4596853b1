"""Errors as pages, for people: what the API would have said, in their language where there are words for it."""

from flask import Flask, Response

from api.auth import is_login, is_visit
from api.console.frame import show
from api.console.language import gettext as _


def _heading(status: int) -> str:
    headings = {
        401: _("Log in first"),
        403: _("This form was not taken") if is_login() else _("Your key may not do this"),
        404: _("There is no such page"),
        422: _("This address does not fit"),
        429: _("Too many requests"),
        503: _("Not reachable right now"),
    }
    return headings.get(status, _("Something went wrong"))


def _advice(status: int) -> str:
    advice = {
        401: _("Your session has ended, or there was none."),
        403: _("Load its page again, then send it once more.")
        if is_login()
        else _("Ask an administrator for a key with a larger scope, or log in with another one."),
        404: _("It may have been removed when its time was over."),
        422: _("Something in the address, a filter perhaps, is not understood."),
        429: _("Wait a moment, then load the page again."),
        503: _("Pressroom cannot reach its database. No task is lost; load the page again soon."),
    }
    return advice.get(status, _("The log has the details, under the number of this request."))


def register(app: Flask) -> None:
    """Put a page in the place of an error's JSON."""

    @app.after_request
    def as_page(response: Response) -> Response:
        status = response.status_code
        if status < 400 or response.mimetype != "application/json" or not is_visit():
            return response
        said = response.get_json().get("message", "")
        response.set_data(
            show("refused.html", heading=_heading(status), advice=_advice(status), said=said, status=status)
        )
        response.mimetype = "text/html"
        return response
