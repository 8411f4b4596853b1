"""The front page and the documentation page."""

from typing import Any

from flask import Blueprint, current_app, jsonify, render_template, send_from_directory, url_for
from flask_swagger_ui.flask_swagger_ui import _DIST_DIR as SWAGGER_UI_FILES

from api.auth import wants_page
from api.console import now
from jobs import __version__

blueprint = Blueprint("meta", __name__)


@blueprint.get("/")
def index() -> Any:
    """The console for browsers; for everybody else, what this is and where to go on."""
    if wants_page():
        return now.page()
    places = {
        "docs": url_for("meta.docs"),
        "openapi": url_for("api-docs.openapi_json"),
        "health": url_for("health.readiness"),
        "workers": url_for("health.workers"),
        "tasks": url_for("tasks.list_tasks"),
        "dashboard": "/rq/",
    }
    return jsonify(name="Pressroom", version=__version__, **places)


@blueprint.get("/favicon.ico")
def favicon() -> Any:
    """For pages that name no icon of their own."""
    return current_app.send_static_file("favicon.ico")


@blueprint.get("/docs")
def docs() -> Any:
    """The interactive documentation; everything it loads comes from here."""
    return render_template("docs.html")


@blueprint.get("/docs/assets/<path:name>")
def docs_asset(name: str) -> Any:
    """Swagger UI's files, from the package that ships them."""
    return send_from_directory(SWAGGER_UI_FILES, name, max_age=86_400)
