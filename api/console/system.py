"""System: health, alerts, backups; keys and the audit for administrators."""

from typing import Any, Final

from flask import request

from api import alerts, audit, health, services
from api.console.frame import may, show
from api.console.tasks import asked, next_page, page_of
from jobs.store import listing

_SHOWN: Final = 10


def system() -> str:
    """Everything at a glance; the page says so when the database is away."""
    found = health.state()
    facts: dict[str, Any] = {"open_alerts": [], "past_alerts": [], "backups": []}
    if found["database"]:
        facts["open_alerts"] = page_of(listing.ALERTS, {"status": "OPEN"}, _SHOWN).rows
        facts["past_alerts"] = [row for row in page_of(listing.ALERTS, {}, _SHOWN).rows if row["status"] != "OPEN"]
        facts["backups"] = page_of(listing.TASKS, {"task_type": "database_backup"}, _SHOWN).rows
    return show("system.html", health=found, settings=services.get().settings, is_admin=may("admin"), **facts)


def system_alerts() -> str:
    """All alerts."""
    page = page_of(listing.ALERTS, asked(alerts.AlertQuery()))
    return show("alerts.html", alerts=page.rows, next=next_page(page), statuses=alerts.STATUSES)


def system_keys() -> str:
    """The API keys, without what is secret of them."""
    tools = services.get()
    given = [{"name": key.name, "scope": key.scope, "state": "in force"} for key in tools.settings.api_keys]
    return show("keys.html", keys=tools.database.all("list_keys"), given=given)


def system_audit() -> str:
    """What administrators did."""
    page = page_of(listing.AUDIT, asked(audit.AuditQuery()))
    who = request.args.get("who", "")
    return show("audit.html", acts=[audit.shown(row) for row in page.rows], next=next_page(page), who=who)


PAGES: Final = {
    "/system": ("system", system),
    "/system/alerts": ("system_alerts", system_alerts),
    "/system/keys": ("system_keys", system_keys),
    "/system/audit": ("system_audit", system_audit),
}
