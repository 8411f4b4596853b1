"""What surrounds every page: who looks, what they may do, where they can go."""

from typing import Any, Final

from flask import Flask, g, render_template, request, url_for

from api.auth import session_token
from api.console.language import gettext as _
from jobs import __version__
from jobs.access import Key
from jobs.sessions import csrf_of
from jobs.setting_values import SCOPES, Scope


def may(scope: Scope) -> bool:
    """Whether who looks may do what needs this scope; while the service is open, everybody may."""
    key: Key | None = g.get("key")
    return key is None or SCOPES.index(key.scope) >= SCOPES.index(scope)


def _rooms() -> list[tuple[str, str]]:
    rooms = [
        ("meta.index", _("Now")),
        ("console.tasks", _("Tasks")),
        ("console.submit", _("Submit")),
        ("console.review", _("Review")),
        ("console.schedules", _("Schedules")),
        ("console.trends", _("Trends")),
        ("console.system", _("System")),
    ]
    return [room for room in rooms if room[0] != "console.submit" or may("submit")]


def _is_here(endpoint: str) -> bool:
    """Whether the page is this room's, or one behind it."""
    here = request.endpoint or ""
    return here == endpoint or here.startswith(f"{endpoint}_")


def here() -> str:
    """This page's own path, to come back to; where a form was sent, there is nothing to come back to."""
    return request.full_path.removesuffix("?") if request.method in ("GET", "HEAD") else url_for("meta.index")


def is_refresh() -> bool:
    """Whether static/console/console.js asks for the live parts of the page only."""
    return "Live-Parts" in request.headers


def show(template: str, **facts: Any) -> str:
    """A page of the console."""
    return render_template(f"console/{template}", **facts)


_GLOBALS: Final = {"may": may, "rooms": _rooms, "is_here": _is_here, "here": here, "version": __version__}


def register(app: Flask) -> None:
    """Let templates ask."""
    app.jinja_env.globals.update(_GLOBALS)
    app.jinja_env.globals["csrf"] = lambda: csrf_of(session_token())
