"""In which language and time zone a page speaks: the browser's, unless a cookie says otherwise."""

import gettext as library
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from flask import Flask, redirect, request

from api import services
from jobs import zones

LANGUAGES: Final = {"en": "English", "zh": "中文"}
_TAGS: Final = {"en": "en", "zh": "zh-Hans"}
_COOKIE: Final = "language"
_ZONE_COOKIE: Final = "zone"  # static/console/console.js sets it
_YEAR_SECONDS: Final = 366 * 86_400
_DIRECTORY: Final = Path(__file__).parents[1] / "translations"


def language() -> str:
    """The page's language."""
    chosen = request.cookies.get(_COOKIE)
    return chosen if chosen in LANGUAGES else request.accept_languages.best_match(LANGUAGES, "en")


def zone() -> ZoneInfo:
    """The viewer's time zone; before it is known, the one of the settings."""
    name = request.cookies.get(_ZONE_COOKIE, "")
    return ZoneInfo(name if name in zones.names() else services.get().settings.tz_default)


def local(moment: datetime) -> datetime:
    """A moment on the viewer's clock."""
    return moment.astimezone(zone())


def today() -> datetime:
    """Now, on the viewer's clock."""
    return local(datetime.now(UTC))


@cache
def _catalog(name: str) -> library.NullTranslations:
    # English is what the pages are written in.
    return library.translation("console", _DIRECTORY, [name], fallback=name == "en")


def gettext(message: str) -> str:
    """The message in the page's language."""
    return _catalog(language()).gettext(message)


def ngettext(one: str, many: str, number: int) -> str:
    """Likewise, for so many."""
    return _catalog(language()).ngettext(one, many, number)


def choose(name: str, wanted: str) -> Any:
    """Keep a language in the cookie, and go back."""
    response = redirect(wanted, 303)
    response.set_cookie(_COOKIE, name, max_age=_YEAR_SECONDS, secure=request.is_secure, httponly=True, samesite="Lax")
    return response


def register(app: Flask) -> None:
    """Let templates speak."""
    app.jinja_env.add_extension("jinja2.ext.i18n")
    app.jinja_env.install_gettext_callables(gettext, ngettext, newstyle=True)  # type: ignore[attr-defined]
    app.jinja_env.globals.update(languages=LANGUAGES, language=language, zone=zone)
    app.jinja_env.globals["language_tag"] = lambda: _TAGS[language()]
