"""Tasks: the list with its filters, and a task's own page."""

from typing import Any, Final
from urllib.parse import urlencode

from flask import request, url_for
from marshmallow import Schema, ValidationError
from werkzeug.datastructures import MultiDict

from api import services
from api.console.frame import may, show
from api.errors import abort
from api.paging import read_page
from api.schemas import TaskQuery
from jobs.lifecycle import TERMINAL, Status
from jobs.priority import MAX_PRIORITY, MIN_PRIORITY, QUEUES
from jobs.shapes import shown_task
from jobs.store import listing
from jobs.store.database import Row
from jobs.store.listing import Listing, Page

PAGE_ROWS: Final = 50
_FILTERS: Final = ("status", "task_type", "queue", "priority", "account_id", "batch_id", "search", "sort")


def asked(schema: Schema) -> dict[str, Any]:
    """The address's query as the API would read it; what forms leave empty was not asked for."""
    given = MultiDict((name, value) for name, value in request.args.items(multi=True) if value.strip())
    try:
        found: dict[str, Any] = schema.load(given)
    except ValidationError as error:
        abort(422, errors={"query": error.messages})
    return found


def page_of(source: Listing, query: dict[str, Any], rows: int = PAGE_ROWS) -> Page:
    """A page of a list; `query` as `asked` gave it."""
    paging = {name: query.pop(name, None) for name in ("sort", "cursor", "skip", "limit")}
    return read_page(source, query, sort=paging["sort"], skip=0, limit=rows, cursor=paging["cursor"])


def next_page(page: Page) -> str | None:
    """The address of the page behind this one."""
    if page.next_cursor is None:
        return None
    here = [(name, value) for name, value in request.args.items(multi=True) if name != "cursor"]
    return f"{request.path}?{urlencode([*here, ('cursor', page.next_cursor)])}"


def tasks() -> str:
    """The list."""
    search = request.args.get("search", "").strip().removeprefix("#")
    page = page_of(listing.TASKS_IN_BRIEF, asked(TaskQuery()))
    return show(
        "tasks.html",
        page=page,
        next=next_page(page),
        filters={name: request.args.get(name, "") for name in _FILTERS},
        is_filtered=any(request.args.get(name, "").strip() for name in _FILTERS if name != "sort"),
        is_number=search.isascii() and search.isdigit() and 0 < int(search) < 2**63,
        number=search,
        looked_through=listing.LOOKED_THROUGH,
        states=list(Status),
        types=sorted(services.get().task_types),
        queues=QUEUES,
        priorities=range(MAX_PRIORITY, MIN_PRIORITY - 1, -1),
    )


def _attempts(events: list[Row]) -> list[dict[str, Any]]:
    """The attempts, from the events: when each began and ended, how, and on which worker."""
    found: dict[int, dict[str, Any]] = {}
    for event in events:
        if event["to_status"] == Status.PROCESSING and event["from_status"] != Status.PROCESSING:
            found[event["id"]] = {
                "number": event["attempt"],
                "began": event["at"],
                "worker": event["worker"],
                "ended": None,
                "outcome": Status.PROCESSING,
            }
        elif event["from_status"] == Status.PROCESSING != event["to_status"] and found:
            # One that did not end by itself, with its worker for instance, waits again as if it had not been.
            outcome = "given back" if event["to_status"] == Status.PENDING else event["to_status"]
            found[max(found)] |= {"ended": event["at"], "outcome": outcome}
    return list(found.values())


def _cost(task: Row) -> float | None:
    """What its tokens cost; None when a model has no price, or nothing was used."""
    usage = task["usage"] or {}
    if not usage:
        return None
    by_model = usage.get("by_model") or {task["model"] or "": usage}
    prices = services.get().prices
    parts = [
        prices.money(model, used.get("prompt_tokens") or 0, used.get("completion_tokens") or 0)
        for model, used in by_model.items()
    ]
    return None if None in parts else sum(part for part in parts if part is not None)


def tasks_one(task_id: int) -> str:
    """A task's page; while it is not done, static/console/task.js follows its events."""
    tools = services.get()
    events = tools.manager.events(task_id)
    row = tools.manager.get(task_id)  # what happens between the two is an event that the stream begins with
    task = shown_task(row)
    kind = tools.task_types.get(row["task_type"])
    allowed = may(kind.scope if kind else "submit")
    return show(
        "task.html",
        task=task,
        events=events,
        attempts=_attempts(events),
        cost=_cost(row),
        currency=tools.prices.currency,
        is_over=row["status"] in TERMINAL,
        may_cancel=allowed and row["status"] not in TERMINAL,
        may_retry=allowed and row["status"] in (Status.FAILED, Status.CANCELLED),
        contents=page_of(listing.CONTENTS, {"task_id": task_id}, 10).rows,
        stream=url_for("live.task_events", task_id=task_id, after=events[-1]["id"] if events else 0),
    )


PAGES: Final = {"/tasks": ("tasks", tasks), "/tasks/<id:task_id>": ("tasks_one", tasks_one)}
