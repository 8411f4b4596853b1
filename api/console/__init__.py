"""The web console: pages that show what the API tells, and leave every change to it."""

from typing import Any

from flask import Blueprint, Flask, abort, request

from api.console import frame, language, now, refusals, review, schedules, submit, system, tasks, trends, words
from api.login import own_path

_ROOMS = (now, tasks, submit, review, schedules, trends, system)


def _choose_language(name: str) -> Any:
    if name not in language.LANGUAGES:
        abort(404)
    return language.choose(name, own_path(request.args.get("next")))


def register(app: Flask) -> None:
    """Add the pages to the app."""
    for part in (language, words, frame, refusals):
        part.register(app)
    blueprint = Blueprint("console", __name__)
    blueprint.add_url_rule("/language/<name>", "language", _choose_language)
    for room in _ROOMS:
        for path, (name, view) in room.PAGES.items():
            blueprint.add_url_rule(path, name, view)
    app.register_blueprint(blueprint)
