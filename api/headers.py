"""What every answer tells browsers: load from here only, run nothing that is written into a page, keep nothing."""

import secrets
from typing import Final

from flask import Flask, Response, g

from api.at_hand import the_notes, the_request

_POLICY: Final = (
    "default-src 'self'; script-src 'self'{nonce}; style-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_ALWAYS: Final = {
    "X-Content-Type-Options": "nosniff",
    # With no-referrer, browsers would send our own forms with "Origin: null".
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    # Static files say otherwise.
    "Cache-Control": "no-store",
}
_YEAR: Final = {"Strict-Transport-Security": "max-age=31536000"}


def _nonced(nonce: str | None) -> str:
    return _POLICY.format(nonce=f" 'nonce-{nonce}'" if nonce else "")


_USUAL: Final = tuple(({"Content-Security-Policy": _nonced(None)} | _ALWAYS).items())
_USUAL_TLS: Final = (*_USUAL, *_YEAR.items())
_NAMES: Final = frozenset(name.lower() for name, _ in _USUAL_TLS)


def nonce() -> str:
    """For scripts that a template holds: this answer's policy lets those run that carry it."""
    g.csp_nonce = g.get("csp_nonce") or secrets.token_urlsafe(16)
    return str(g.csp_nonce)


def register(app: Flask) -> None:
    """Add them to every answer; one that a view gave itself stays."""
    app.jinja_env.globals["csp_nonce"] = nonce

    @app.after_request
    def add(response: Response) -> Response:
        ours = _USUAL_TLS if the_request().is_secure else _USUAL
        if nonce := the_notes().pop("csp_nonce", None):
            ours = (("Content-Security-Policy", _nonced(nonce)), *ours[1:])
        # Each `setdefault` would go through all of them.
        given = {name.lower() for name, _ in response.headers}
        if given.isdisjoint(_NAMES):
            response.headers.extend(ours)
        else:
            response.headers.extend([(name, value) for name, value in ours if name.lower() not in given])
        return response
