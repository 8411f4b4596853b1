"""Submit: a form for each task type, made from its schema; static/console/form.js sends it to the API."""

import re
from dataclasses import replace
from typing import Any, Final

from flask import request, url_for

from api import services, task_types
from api.console.forms import fields_of
from api.console.frame import may, show
from api.schemas import NewTask, json_schema
from jobs.errors import NotFound
from jobs.shapes import shown_task
from jobs.store import listing

_FIRST: Final = "text_generation"
_NUMBER: Final = re.compile(r"[0-9]{1,19}")  # as in paths (api/app.py)
_MORE: Final = (
    "timeout_seconds", "max_retries", "delay_seconds", "depends_on", "unique_key", "cache_ttl", "callback_url",
    "metadata",
)  # fmt: skip
_AS_BEFORE: Final = ("prompt", "model", "priority", "stream", "timeout_seconds", "max_retries", "metadata", "input")


def _before(name: str) -> dict[str, Any]:
    """What the task had that this one is to be like."""
    given = request.args.get("like", "")
    if not _NUMBER.fullmatch(given):
        return {}
    task = shown_task(services.get().manager.get(min(int(given), 2**63 - 1)))
    return {key: task[key] for key in _AS_BEFORE} if task["task_type"] == name else {}


def submit() -> str:
    """The form of the type that most want."""
    return submit_type(_FIRST)


def submit_type(name: str) -> str:
    """A type's form."""
    tools = services.get()
    kind = tools.task_types.get(name)
    if kind is None or not may(kind.scope):
        raise NotFound(f"There is no task type {name!r} for you.")
    before = _before(name)
    about = task_types.shown(kind)
    common = json_schema(NewTask())
    values = {"model": about["model"] or (tools.settings.default_model if kind.needs_prompt else None), **before}
    first = ("prompt", "model") if kind.needs_prompt else ("model",) if kind.calls_model else ()
    accounts = listing.ACCOUNTS.page(tools.database, {}, sort="-id", skip=0, limit=100, cursor=None)
    return show(
        "submit.html",
        kind=about,
        types=[one for _, one in sorted(tools.task_types.items()) if may(one.scope)],
        first=[
            replace(field, is_required=kind.needs_prompt, hint="") for field in fields_of(common, values, only=first)
        ],
        inputs=fields_of(about["input_schema"], before.get("input", {}), prefix="input."),
        more=fields_of(common, before, only=_MORE),
        priority=before.get("priority", about["priority"]),
        stream=before.get("stream", True),
        accounts=accounts.rows,
        target=url_for("tasks.create_task"),
    )


PAGES: Final = {"/submit": ("submit", submit), "/submit/<name>": ("submit_type", submit_type)}
