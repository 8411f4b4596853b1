"""/login and /logout: people exchange a key for a session. What went wrong with a key is not told."""

import re
from typing import Any, Final

from flask import Blueprint, g, make_response, redirect, render_template, request, url_for

from api import audit, services
from api.auth import cookie_name, prove_own_page, session_token
from jobs.audit import record
from jobs.sessions import LIFE_SECONDS, csrf_of

blueprint = Blueprint("login", __name__)

# Printable ASCII: browsers drop tabs and line ends, and take a backslash for a slash, before they read an address.
_OWN_PATH: Final = re.compile(r"/(?![/\\])[!-\[\]-~]{0,2000}")


def own_path(wanted: str | None) -> str:
    """Where to go after the login: a path here, else the front page."""
    return wanted if wanted and _OWN_PATH.fullmatch(wanted) else url_for("meta.index")


@blueprint.get("/login")
def page() -> Any:
    """The form; nothing to ask for while the service is open."""
    wanted = own_path(request.args.get("next"))
    if services.get().keyring.is_open():
        return redirect(wanted, 303)
    token = session_token()
    key = services.get().sessions.key_of(token) if token else None
    return _form(wanted, key_name=key.name if key else "", csrf=csrf_of(token))


@blueprint.post("/login")
def enter() -> Any:
    """Begin a session with the key in the form."""
    # There is no session yet whose token the form could carry; that it is our own page is proof enough.
    prove_own_page(None)
    tools = services.get()
    wanted = own_path(request.form.get("next"))
    if tools.keyring.is_open():
        return redirect(wanted, 303)
    key = tools.keyring.find(request.form.get("key", "").strip())
    if key is None:
        with tools.database.transaction() as session:
            record(session, **audit.facts(who="", outcome="REFUSED", status_code=401))
        return _form(wanted, failed=True), 401
    g.key, g.caller = key, key.name
    token = tools.sessions.begin(key, session_token(), audit.facts(status_code=303))
    tools.keyring.used(key)
    response = make_response(redirect(wanted, 303))
    response.set_cookie(
        cookie_name(), token, max_age=LIFE_SECONDS, secure=request.is_secure, httponly=True, samesite="Lax"
    )
    return response


@blueprint.post("/logout")
def leave() -> Any:
    """End the session."""
    if token := session_token():
        services.get().sessions.end(token, audit.facts(status_code=303))
    response = make_response(redirect(url_for("login.page"), 303))
    response.delete_cookie(cookie_name(), secure=request.is_secure, httponly=True, samesite="Lax")
    return response


def _form(wanted: str, *, failed: bool = False, key_name: str = "", csrf: str = "") -> str:
    own_page = url_for("login.page", next=wanted)
    return render_template("login.html", next=wanted, failed=failed, key_name=key_name, csrf=csrf, own_page=own_page)
