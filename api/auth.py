"""Who may do what: keys from the settings, as Bearer, X-API-Key or Basic.

Without keys everything is open to this machine: `jobs.settings.check_exposure` keeps the service on loopback,
and requests that a browser was led to make by a page from elsewhere are refused here.
"""

import hmac
from urllib.parse import urlsplit

from flask import Flask, g, request

from api import dashboard
from api.errors import abort
from jobs.setting_values import SCOPES, ApiKey, Scope
from jobs.settings import Settings, is_loopback

_OPEN_PATHS = frozenset({"/health", "/api/v1/health"})
_SAFE = ("GET", "HEAD", "OPTIONS")
# Whoever may submit may change what is below these; all other changes are the administrators'.
_SUBMITTING = tuple(f"/api/v1/{room}" for room in ("tasks", "batches", "callbacks", "daily-life", "memorize"))
_SECRET_ENDPOINTS = frozenset({"callbacks.callback_secret"})
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="Pressroom", Basic realm="Pressroom"'}


def register(app: Flask, settings: Settings) -> None:
    """Check every request."""

    @app.before_request
    def refuse_other_sites() -> None:
        origin = request.headers.get("Origin")
        elsewhere = request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none")
        if request.method not in _SAFE and (elsewhere or (origin and urlsplit(origin).netloc != request.host)):
            abort(403, message="Requests from pages of other sites may not change anything.")
        # A page whose name was made to point here (DNS rebinding) comes with that name.
        if not settings.api_keys and not is_loopback(urlsplit(f"//{request.host}").hostname or ""):
            abort(403, message="Without API keys, only requests to a loopback address are answered.")

    if not settings.api_keys:
        return

    @app.before_request
    def check() -> None:
        if request.path in _OPEN_PATHS:
            return
        key = _find(settings.api_keys, _presented())
        if key is None:
            abort(401, message="A valid API key is required.", headers=_CHALLENGE)
        g.caller = key.name
        if SCOPES.index(key.scope) < SCOPES.index(_needed()):
            abort(403, message=f"This key's scope is {key.scope!r}; {_needed()!r} is needed.")


def _presented() -> str:
    """The secret in the request, however it was sent; empty when there is none."""
    header = request.authorization
    if header and header.type == "bearer":
        return header.token or ""
    if header and header.type == "basic":
        return header.password or ""
    return request.headers.get("X-API-Key", "")


def _find(keys: tuple[ApiKey, ...], secret: str) -> ApiKey | None:
    """The key with this secret; compares with all of them, each in constant time."""
    found = None
    for key in keys:
        if hmac.compare_digest(key.secret.encode(), secret.encode()):
            found = key
    return found


def _needed() -> Scope:
    if dashboard.is_here(request.path) or request.endpoint in _SECRET_ENDPOINTS:
        return "admin"
    if request.method in _SAFE:
        return "read"
    return "submit" if request.path.startswith(_SUBMITTING) else "admin"
