"""How pages write states, times, amounts and JSON."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import orjson
from flask import Flask
from markupsafe import Markup

from api.console.language import gettext as _
from api.console.language import local, today


def _noted(message: str) -> str:
    """Marks a message that is translated where it is used."""
    return message


# A sign and a word for each, so that nobody needs the colour.
_STATES: Final = {
    "BLOCKED": ("◌", _noted("Blocked"), "quiet"),
    "PENDING": ("○", _noted("Waiting"), "quiet"),
    "PROCESSING": ("◐", _noted("Running"), "busy"),
    "RETRYING": ("↻", _noted("Retrying"), "warn"),
    "COMPLETED": ("✓", _noted("Completed"), "good"),
    "FAILED": ("✕", _noted("Failed"), "bad"),
    "CANCELLED": ("⊘", _noted("Cancelled"), "quiet"),
    "SKIPPED": ("⤼", _noted("Skipped"), "warn"),
    "PENDING_REVIEW": ("○", _noted("Waits for review"), "warn"),
    "APPROVED": ("✓", _noted("Approved"), "good"),
    "REJECTED": ("✕", _noted("Rejected"), "bad"),
    "OPEN": ("!", _noted("Open"), "bad"),
    "RESOLVED": ("✓", _noted("Resolved"), "good"),
    "NOTED": ("i", _noted("Noted"), "quiet"),
    "DONE": ("✓", _noted("Done"), "good"),
    "REFUSED": ("✕", _noted("Refused"), "bad"),
    "ATTEMPTED": ("…", _noted("Begun"), "warn"),
    "active": ("✓", _noted("Active"), "good"),
    "paused": ("‖", _noted("Paused"), "quiet"),
    "given back": ("↻", _noted("Given back"), "warn"),
    "well": ("✓", _noted("OK"), "good"),
    "away": ("✕", _noted("Away"), "bad"),
    "in force": ("✓", _noted("In force"), "good"),
    "replaced": ("↻", _noted("Replaced"), "warn"),
    "expired": ("⊘", _noted("Expired"), "quiet"),
    "revoked": ("✕", _noted("Revoked"), "bad"),
}
_REASONS: Final = {
    "paused": _noted("the schedule was paused"),
    "overlap": _noted("the last one still worked"),
    "misfire_policy": _noted("missed while nothing ran"),
    "impossible": _noted("it could not be fired"),
    "worker_lost": _noted("the worker was lost"),
    "handed back": _noted("the worker stopped, and handed it back"),
    "waits for its turn": _noted(
        "it waits for its turn: workers were lost while it ran, and another such task runs now"
    ),
    "retried on request": _noted("retried on request"),
    "soft_limit": _noted("its time is nearly over"),
    "cached": _noted("an equal result was there already"),
}
_POLICIES: Final = {
    "fire_once": _noted("fire once for all of them"),
    "fire_all": _noted("fire all of them"),
    "skip": _noted("skip it"),
    "allow": _noted("fire all the same"),
    "queue": _noted("fire afterwards"),
    "seconds": _noted("seconds"),
    "minutes": _noted("minutes"),
    "hours": _noted("hours"),
    "days": _noted("days"),
    "weeks": _noted("weeks"),
}
_FIELDS: Final = {
    "prompt": _noted("Prompt"),
    "model": _noted("Model"),
    "system_prompt": _noted("System prompt"),
    "messages": _noted("Earlier messages"),
    "temperature": _noted("Temperature"),
    "max_tokens": _noted("Most tokens"),
    "response_format": _noted("Format of the answer"),
    "timeout_seconds": _noted("Seconds that an attempt may take"),
    "max_retries": _noted("Tries after the first"),
    "delay_seconds": _noted("Begin after so many seconds"),
    "depends_on": _noted("Tasks to wait for"),
    "unique_key": _noted("Unique key"),
    "cache_ttl": _noted("Take an equal result of the last seconds"),
    "callback_url": _noted("Callback address"),
    "metadata": _noted("Metadata"),
    "account_id": _noted("Account"),
    "account_ids": _noted("Accounts"),
    "topic": _noted("Topic"),
    "topics": _noted("Topics"),
    "keywords": _noted("Keywords"),
    "requirements": _noted("Requirements"),
    "tone": _noted("Tone"),
    "category": _noted("Category"),
    "auto_approve": _noted("Approve at once"),
    "rejected_because": _noted("Why the last one was rejected"),
    "part_chars": _noted("Characters of a part"),
    "conversation": _noted("Conversation"),
    "conversation_history": _noted("Conversation"),
    "hours": _noted("Hours"),
    "target_date": _noted("Date"),
    "persona": _noted("Persona"),
    "weather": _noted("Weather"),
    "major_events": _noted("Major events"),
    "keep_days": _noted("Days to keep backups"),
    "retention_days": _noted("Days to keep tasks"),
    "text": _noted("Text"),
    "texts": _noted("Texts"),
    "title": _noted("Title"),
    "collection": _noted("Collection"),
    "ids": _noted("Ids"),
    "dimensions": _noted("Dimensions"),
    "count_per_account": _noted("Pieces for each account"),
    "priority": _noted("Priority"),
    "days_ahead": _noted("Days ahead"),
    "task_type": _noted("Task type"),
    "waited_seconds": _noted("Waited"),
    "run_seconds": _noted("Ran"),
    "error": _noted("Error"),
    "reason": _noted("Reason"),
    "warning": _noted("Warning"),
    "delay": _noted("Next attempt after"),
    "delay_until": _noted("Not before"),
    "input": _noted("Input"),
    "cpu_seconds": _noted("CPU time"),
    "peak_memory_mb": _noted("Most memory (MB)"),
}
_LEVELS: Final = {
    "info": _noted("Information"),
    "warning": _noted("Warning"),
    "error": _noted("Error"),
    "critical": _noted("Critical"),
}
_UNITS: Final = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"))


def word(state: str) -> str:
    """A state's name."""
    return _(_STATES[state][1]) if state in _STATES else state


def badge(state: str) -> Markup:
    """A state, in words and colour."""
    sign, _name, tone = _STATES.get(state, ("•", state, "quiet"))
    return Markup('<span class="state {}"><span aria-hidden="true">{}</span> {}</span>').format(tone, sign, word(state))


def sign(state: str) -> str:
    """A state's sign."""
    return _STATES[state][0] if state in _STATES else "•"


def reason(code: str) -> str:
    """Why a slot was skipped, or something happened to a task."""
    return _(_REASONS[code]) if code in _REASONS else code


def policy(code: str) -> str:
    """What a schedule does, or a unit of its interval."""
    return _(_POLICIES[code]) if code in _POLICIES else code


def level(code: str) -> str:
    """How bad it is, what an alert tells."""
    return _(_LEVELS[code]) if code in _LEVELS else code


def field_name(name: str) -> str:
    """What a field of a form is called; task types of others may have any."""
    return _(_FIELDS[name]) if name in _FIELDS else name.replace("_", " ").capitalize()


def rhythm(schedule: Mapping[str, Any]) -> Markup | str:
    """When a schedule fires."""
    if schedule["cron_expression"]:
        return Markup("<code>{}</code>").format(schedule["cron_expression"])
    return _("every %(count)s %(unit)s") % {"count": schedule["interval"], "unit": policy(schedule["interval_unit"])}


def away(seconds: float) -> str:
    """How far something is off."""
    return _("in %(time)s") % {"time": span(seconds)} if seconds > 0 else ""


def clock(moment: datetime | None) -> Markup | str:
    """A moment on the viewer's clock, as short as it can be told."""
    if not moment:
        return "–"
    seen, now = local(moment), today()
    shape = "%H:%M:%S" if seen.date() == now.date() else "%m-%d %H:%M" if seen.year == now.year else "%Y-%m-%d %H:%M"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        moment.isoformat(), seen.strftime("%Y-%m-%d %H:%M:%S %Z"), seen.strftime(shape)
    )


def wall_clock(moment: datetime | None) -> str:
    """A moment on the viewer's clock, as a control for times holds it."""
    return local(moment).replace(tzinfo=None).isoformat(timespec="minutes") if moment else ""


def span(seconds: float | None) -> str:
    """A length of time."""
    if seconds is None:
        return "–"
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def number(value: float | None) -> str:
    """A number, with its thousands apart."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def whole(value: float | None) -> str:
    """Likewise, of what is counted; what is between two of them, as on an axis, is not rounded away."""
    return number(int(value) if value is not None and value == int(value) else value)


def money(amount: float | None) -> str:
    """An amount, with three digits that count where it is less than one: tokens cost fractions of a cent."""
    if not amount or abs(amount) >= 1:
        return number(None if amount is None else float(amount))
    return f"{amount:.{2 - math.floor(math.log10(abs(amount)))}f}"


def percent(part: float | None) -> str:
    """A part of one."""
    return "–" if part is None else f"{100 * part:.4g} %"


def pretty(value: Any) -> str:
    """JSON to read."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str).decode()


def register(app: Flask) -> None:
    """As filters."""
    states = (badge, word, sign, reason, policy, level, rhythm)
    amounts = (away, clock, wall_clock, span, number, money, percent, pretty)
    app.jinja_env.filters.update({one.__name__: one for one in (*states, *amounts)})
    app.jinja_env.globals.update(field_name=field_name, today=today)
