"""Review: an inbox of what waits, and each piece's own page; static/console/review.js has its keys."""

from typing import Any, Final

from flask import request

from api import services
from api.console.frame import may, show
from api.console.tasks import asked, next_page, page_of
from api.contents import STATUSES, ContentQuery
from jobs.store import listing

_WAITING: Final = "PENDING_REVIEW"


def review() -> str:
    """The inbox: what waits, unless asked otherwise."""
    query: dict[str, Any] = {"review_status": _WAITING, **asked(ContentQuery())}
    if request.args.get("review_status") == "":
        del query["review_status"]
    status = query.get("review_status", "")
    page = page_of(listing.CONTENTS, query)
    return show(
        "review.html",
        page=page,
        next=next_page(page),
        status=status,
        statuses=STATUSES,
        account=request.args.get("account_id", ""),
        may_decide=may("admin"),
    )


def review_one(content_id: int) -> str:
    """A piece to read, edit and decide about."""
    tools = services.get()
    content = tools.contents.get(content_id)
    (beside,) = tools.database.all("waiting_beside", {"id": content_id})
    return show(
        "content.html",
        content=content,
        edits=tools.contents.edits(content_id),
        older=beside["older"],
        newer=beside["newer"],
        may_decide=may("admin"),
    )


PAGES: Final = {"/review": ("review", review), "/review/<id:content_id>": ("review_one", review_one)}
