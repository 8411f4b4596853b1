"""What every answer tells browsers: load from here only, run nothing that is written into a page, keep nothing."""

import secrets
from typing import Final

from flask import Flask, Response, g, request

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
_YEAR: Final = ("Strict-Transport-Security", "max-age=31536000")


def nonce() -> str:
    """For scripts that a template holds: this answer's policy lets those run that carry it."""
    g.csp_nonce = g.csp_nonce or secrets.token_urlsafe(16)
    return str(g.csp_nonce)


def register(app: Flask) -> None:
    """Add them to every answer; one that a view gave itself stays."""
    app.jinja_env.globals["csp_nonce"] = nonce

    @app.before_request
    def begin() -> None:
        g.csp_nonce = None

    @app.after_request
    def add(response: Response) -> Response:
        # Each `setdefault` would go through all of them.
        given = {name.lower() for name, _ in response.headers}
        if "content-security-policy" not in given:
            allowed = f" 'nonce-{g.csp_nonce}'" if g.get("csp_nonce") else ""
            response.headers.add("Content-Security-Policy", _POLICY.format(nonce=allowed))
        for name, value in [*_ALWAYS.items(), _YEAR] if request.is_secure else _ALWAYS.items():
            if name.lower() not in given:
                response.headers.add(name, value)
        return response
