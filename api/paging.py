"""Lists over HTTP: one way to page, with the same headers everywhere."""

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlencode

from flask import Response, jsonify, request
from marshmallow import Schema, fields, validate

from api import services
from api.errors import abort
from jobs.fields import QueryInteger
from jobs.store.database import Row
from jobs.store.listing import BadCursor, Listing, Page


class Paging(Schema):
    """What every list's query may say."""

    skip = QueryInteger(load_default=0, validate=validate.Range(0, 2**31))
    limit = QueryInteger(load_default=100, validate=validate.Range(1, 1000))
    cursor = fields.String(
        metadata={"description": "From the Link header of the page before; with the same sort and filters."}
    )


def sort_field(listing: Listing) -> fields.String:
    """The `sort` of a list; newest first unless said otherwise."""
    accepted = validate.OneOf(listing.sorts)
    if "created_after" not in listing.filters:
        return fields.String(load_default="-id", validate=accepted)
    described = "Newest first if not given: `-created_at` with `created_after` or `created_before`, else `-id`."
    return fields.String(load_default=None, validate=accepted, metadata={"description": described})


def shown_by(schema: type[Schema]) -> Callable[[Row], dict[str, Any]]:
    """What shows a row (that has more columns) as the schema says."""
    names = tuple(schema().fields)
    return lambda row: {name: row[name] for name in names}


def read_page(listing: Listing, filters: dict[str, Any], **paging: Any) -> Page:
    """A page of the list; a cursor that is none of its own is refused."""
    try:
        return listing.page(services.get().database, filters, **paging)
    except BadCursor as error:
        abort(422, errors={"query": {"cursor": [str(error)]}})


def page_of(listing: Listing, query: dict[str, Any], shown: Callable[[Row], dict[str, Any]]) -> Response:
    """A JSON array, with X-Total-Count, X-Total-Count-Exact and Link."""
    paging = {name: query.pop(name, None) for name in ("sort", "skip", "limit", "cursor")}
    if paging["cursor"] and paging["skip"]:
        abort(422, errors={"query": {"skip": ["Give skip or cursor, not both."]}})
    page = read_page(listing, query, **paging)
    response = _counted([shown(row) for row in page.rows], page.total, is_exact=page.total_is_exact)
    if links := _links(page, paging):
        response.headers["Link"] = links
    return response


WHOLE: Final = {"X-Total-Count": "TotalCount", "X-Total-Count-Exact": "TotalCountExact"}
"""The headers of a list without pages, for the OpenAPI document."""


def whole(rows: list[Any]) -> Response:
    """A list without pages: a JSON array with the same headers."""
    return _counted(rows, len(rows), is_exact=True)


def _counted(rows: list[Any], total: int, *, is_exact: bool) -> Response:
    response = jsonify(rows)
    response.headers["X-Total-Count"] = str(total)
    response.headers["X-Total-Count-Exact"] = str(is_exact).lower()
    return response


def _links(page: Page, paging: dict[str, Any]) -> str:
    """RFC 8288 links to the first, the previous (when skipping) and the next page."""
    here = {name: value for name, value in request.args.items(multi=True) if name not in ("skip", "cursor")}

    def link(relation: str, **change: Any) -> str:
        return f'<{request.base_url}?{urlencode({**here, **change})}>; rel="{relation}"'

    links = []
    if paging["cursor"] or paging["skip"]:
        links.append(link("first"))
    if paging["skip"]:
        links.append(link("prev", skip=max(0, paging["skip"] - paging["limit"])))
    if page.next_cursor:
        links.append(link("next", cursor=page.next_cursor))
    return ", ".join(links)
