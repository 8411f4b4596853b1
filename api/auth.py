"""Who may do what: a key as Bearer, X-API-Key or Basic, or a session that was begun with one (api.login).

Without keys everything is open to this machine: `jobs.access.check_exposure` keeps the service on loopback. Requests
that a browser was led to make by a page from elsewhere are refused in any case.
"""

import hmac
from collections.abc import Callable
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from flask import Flask, Request, g, redirect, request, url_for
from werkzeug import Response

from api import dashboard, services
from api.at_hand import the_notes, the_request
from api.errors import abort
from jobs.access import Key
from jobs.errors import Unavailable
from jobs.sessions import csrf_of
from jobs.setting_values import SCOPES, Scope
from jobs.settings import is_loopback

# By the name of the view, which the router found: paths can be written in many ways.
OPEN: Final = frozenset(
    {"health.liveness", "health.readiness", "login.page", "login.enter", "meta.favicon", "static", "console.language"}
)
_PAGES: Final = frozenset({"meta.index", "meta.docs", "tasks.task_profile"})
SAFE: Final = ("GET", "HEAD", "OPTIONS")
_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
# Whoever may submit may change what is below these; all other changes are the administrators'.
_SUBMITTING: Final = tuple(f"/api/v1/{room}" for room in ("tasks", "batches", "callbacks", "daily-life", "memorize"))
# What is a secret, or tells of the administrators.
SECRETS: Final = frozenset({"callbacks.callback_secret"})
_FOR_ADMINS: Final = SECRETS | {
    "audit.list_audit",
    "console.schedules_edit",
    "console.schedules_new",
    "console.system_audit",
    "console.system_keys",
}
_FOR_SUBMITTERS: Final = frozenset({"console.submit", "console.submit_type"})


def register(app: Flask) -> None:
    """Check every request."""

    @app.before_request
    def check() -> Response | None:
        request, notes = the_request(), the_notes()
        if request.method not in SAFE and _origin(request) == "elsewhere":
            abort(403, message="Requests from pages of other sites may not change anything.")
        notes.key, notes.session = None, ""
        if request.endpoint in OPEN:
            return None
        notes.key = key = _presented(request)
        if key is None:
            return _without_key(request)
        notes.caller = key.name
        services.get().keyring.used(key)
        require(needed())
        return None


def require(scope: Scope) -> None:
    """Refuse the request when its key allows less."""
    if g.key and SCOPES.index(g.key.scope) < SCOPES.index(scope):
        abort(403, message=f"This key's scope is {g.key.scope!r}; {scope!r} is needed.")


def admission() -> Callable[[], bool]:
    """What tells, as long as an answer goes on, whether whoever asked for it would still be let in.

    While PostgreSQL is away and that is not known, they are.
    """
    tools, key, session = services.get(), g.key, g.session

    def is_valid() -> bool:
        try:
            if key is None:
                return tools.keyring.is_open()
            return bool(tools.sessions.key_of(session) if session else tools.keyring.living(key.name, key.prefix))
        except Unavailable:
            return True

    return is_valid


def _presented(request: Request) -> Key | None:
    """The key in the request, however it was sent; what is sent on purpose goes before the session."""
    keyring = services.get().keyring
    header = request.authorization if "HTTP_AUTHORIZATION" in request.environ else None
    if header and header.type == "bearer":
        return keyring.find(header.token or "")
    if header and header.type == "basic":
        return keyring.find(header.password or "", header.username or "")
    if header:
        return None
    if secret := request.environ.get("HTTP_X_API_KEY"):
        return keyring.find(secret)
    if not (token := session_token()):
        return None
    key = services.get().sessions.key_of(token)
    # The browser sends a cookie whoever asks it to: then we must know that it was one of our own pages.
    if key and request.method not in SAFE:
        prove_own_page(token)
    g.session = token
    return key


def _without_key(request: Request) -> Response | None:
    if services.get().keyring.is_open():
        # A page whose name was made to point here (DNS rebinding) comes with that name.
        if not _is_local(request.host):
            abort(403, message="Without API keys, only requests to a loopback address are answered.")
        return None
    if request.endpoint == "login.leave":  # it has ended already
        return redirect(url_for("login.page"), 303)
    # A key that is none is told of, and counted as a guess (api/limits.py), whatever page it was sent to.
    if presents_key() or not is_visit():
        abort(401, message="A valid API key is required.", headers={"WWW-Authenticate": _challenge()})
    return redirect(url_for("login.page", next=request.full_path.removesuffix("?")), 303)


@lru_cache(64)
def _is_local(host: str) -> bool:
    return is_loopback(urlsplit(f"//{host}").hostname or "")


def presents_key() -> bool:
    """Whether the request carries a key itself, right or wrong; a session's cookie is none."""
    environ = the_request().environ
    return "HTTP_AUTHORIZATION" in environ or "HTTP_X_API_KEY" in environ


def is_visit() -> bool:
    """Whether a person opens one of our pages, or an address that nobody knows, or logs in or out."""
    endpoint = request.endpoint or ""
    is_page = endpoint in _PAGES or endpoint.startswith("console.") or dashboard.has(endpoint)
    is_unknown = not endpoint and not request.path.startswith("/api/")
    is_opened = (is_page or is_unknown) and request.method in ("GET", "HEAD")
    return (is_opened or is_login()) and wants_page()


def is_login() -> bool:
    """Whether this is about the beginning or the end of a session; these forms are sent without a script."""
    return (request.endpoint or "").startswith("login.")


def wants_page() -> bool:
    """Whether the caller would rather have HTML than JSON."""
    return request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"


def _challenge() -> str:
    """Scripts of pages are not offered Basic: the browser would ask for a password when their session ends."""
    basic = 'Basic realm="Pressroom", charset="UTF-8"'
    by_script = request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate" or session_token()
    return 'Bearer realm="Pressroom"' + ("" if by_script else f", {basic}")


def _origin(request: Request) -> str:
    """Where the page is that makes the browser send this: `here`, `elsewhere`, or `unknown`."""
    site, origin = request.environ.get("HTTP_SEC_FETCH_SITE"), request.environ.get("HTTP_ORIGIN")
    if (site and site not in ("same-origin", "none")) or (origin and _host_of(origin) != request.host):
        return "elsewhere"
    return "here" if origin or site == "same-origin" else "unknown"


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return ""


def prove_own_page(token: str | None) -> None:
    """Refuse what was not sent by one of our pages; forms of a session must carry its own token, too.

    Scripts of other sites cannot send JSON here without our consent (CORS), forms they can: hence the token.
    """
    if _origin(the_request()) != "here":
        message = "With a session, changes need the header Origin or Sec-Fetch-Site of our own pages."
        if token is None:
            message = "Log in from our own page: the header Origin or Sec-Fetch-Site is missing."
        abort(403, message=message)
    if token and request.mimetype in _FORMS:
        given = request.form.get("csrf", "")
        if not hmac.compare_digest(given.encode(), csrf_of(token).encode()):
            abort(403, message="This form is not from your session; load its page again.")


def cookie_name() -> str:
    """Over TLS one that neither other hosts of the domain nor plain HTTP can set."""
    return "__Host-pressroom" if request.is_secure else "pressroom"


def session_token() -> str:
    """What the session's cookie holds; empty when there is none."""
    request = the_request()
    return request.cookies.get(cookie_name(), "") if "HTTP_COOKIE" in request.environ else ""


def needed() -> Scope:
    """The scope that this request needs."""
    request = the_request()
    endpoint = request.endpoint or ""
    if dashboard.has(endpoint):
        return "admin"
    return scope_for(request.method, endpoint, request.url_rule.rule if request.url_rule else "")


def scope_for(method: str, endpoint: str, rule: str) -> Scope:
    """The scope that a view needs."""
    if endpoint in _FOR_ADMINS:
        return "admin"
    if endpoint in _FOR_SUBMITTERS:
        return "submit"
    if method in SAFE or endpoint == "login.leave":
        return "read"
    return "submit" if rule.startswith(_SUBMITTING) else "admin"
