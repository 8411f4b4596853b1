"""Commands about schedules, contents and numbers."""

from typing import Any, Final

import click
import orjson

from cli import show
from cli.client import Client, Connect
from cli.tasks import TEXT, as_json

_EXECUTIONS: Final = 10


@click.command()
@click.argument("number", type=int, required=False)
@as_json
@click.pass_obj
def schedules(connect: Connect, number: int | None, json: bool) -> None:
    """List the schedules, or show one with what became of its last slots."""
    with connect() as client:
        if number is None:
            _list(client, json)
            return
        found = client.get(f"/api/v1/scheduler/tasks/{number}")
        fired = client.get("/api/v1/scheduler/executions", schedule_id=number, limit=_EXECUTIONS)
    if json:
        show.as_json({**found, "executions": fired})
        return
    show.facts([
        ("schedule", found["id"]), ("name", found["name"]), ("executor", found["task_type"]), ("when", _when(found)),
        ("active", "yes" if found["is_active"] else "no, paused"), ("next", show.moment(found["next_run_at"])),
        ("last", show.moment(found["last_run_at"])), ("params", orjson.dumps(found["params"]).decode()),
    ])  # fmt: skip
    if fired:
        click.echo()
        titles = ("EXECUTION", "SCHEDULED FOR", "TRIGGER", "STATUS", "WHY")
        show.table(titles, (_execution(one) for one in fired))


def _list(client: Client, json: bool) -> None:
    found = client.pages("/api/v1/scheduler/tasks", None)
    if json:
        show.as_json_list(found)
        return
    titles = ("ID", "NEXT", "LAST", "WHEN", "EXECUTOR", "NAME")
    show.table(titles, (
        (one["id"], show.moment(one["next_run_at"]) or "paused", show.moment(one["last_run_at"]), _when(one),
         one["task_type"], one["name"])
        for one in found
    ))  # fmt: skip


def _when(found: dict[str, Any]) -> str:
    if found["cron_expression"]:
        return f"{found['cron_expression']} {found['timezone']}"
    return f"every {found['interval']} {found['interval_unit']}"


def _execution(found: dict[str, Any]) -> tuple[Any, ...]:
    error = found["error"] or {}
    why = found["reason"] or error.get("message") or found["detail"] or (found["result"] or {}).get("message") or ""
    return found["id"], show.moment(found["scheduled_for"]), found["trigger"], found["status"], why


@click.command()
@click.argument("number", type=int)
@as_json
@click.pass_obj
def trigger(connect: Connect, number: int, json: bool) -> None:
    """Fire a schedule now."""
    with connect() as client:
        fired = client.post(f"/api/v1/scheduler/tasks/{number}/trigger")
    if json:
        show.as_json(fired)
    else:
        why = _execution(fired)[-1]
        show.text(f"execution {fired['id']} {fired['status']}{f': {why}' if why else ''}")


@click.command()
@click.argument("number", type=int, required=False)
@click.option("--status", type=click.Choice(["PENDING_REVIEW", "APPROVED", "REJECTED"], case_sensitive=False))
@click.option("--account", "account_id", type=int)
@click.option("--limit", "-n", type=click.IntRange(0), default=20, show_default=True, help="0: all.")
@as_json
@click.pass_obj
def contents(
    connect: Connect, number: int | None, status: str | None, account_id: int | None, limit: int, json: bool
) -> None:
    """List what was produced, newest first, or show one piece whole."""
    with connect() as client:
        if number is not None:
            _show_content(client.get(f"/api/v1/contents/{number}"), json)
            return
        found = client.pages("/api/v1/contents", limit or None, review_status=status, account_id=account_id)
        if json:
            show.as_json_list(found)
            return
        titles = ("ID", "REVIEW", "ACCOUNT", "TASK", "CREATED", "TITLE")
        show.table(titles, (
            (one["id"], one["review_status"], one["account_id"], one["task_id"], show.moment(one["created_at"]),
             one["title"])
            for one in found
        ))  # fmt: skip


def _show_content(found: dict[str, Any], json: bool) -> None:
    if json:
        show.as_json(found)
        return
    show.facts([
        ("content", found["id"]), ("review", found["review_status"]), ("why", found["review_reason"]),
        ("reviewed by", found["reviewed_by"]), ("account", found["account_id"]), ("task", found["task_id"]),
        ("category", found["category"]), ("topic", found["topic"]), ("created", show.moment(found["created_at"])),
        ("title", found["title"]), ("summary", found["summary"]),
    ])  # fmt: skip
    click.echo()
    show.text(found["body"])


@click.command()
@click.option("--hours", type=click.IntRange(1), default=24, show_default=True, help="How far to look back.")
@click.option("--type", "task_type", type=TEXT, help="Of one task type; money is always that of all.")
@as_json
@click.pass_obj
def stats(connect: Connect, hours: int, task_type: str | None, json: bool) -> None:
    """Show queues, workers, how tasks ended, tokens and money."""
    with connect() as client:
        now = client.get("/api/v1/stats/realtime")
        ended = client.get("/api/v1/stats/tasks", hours=hours, task_type=task_type)
        costs = client.get("/api/v1/stats/costs", hours=hours)
    if json:
        show.as_json({"realtime": now, "tasks": ended, "costs": costs})
        return
    show.table(
        ("QUEUE", "WAITING", "DELAYED", "RUNNING", "OLDEST"),
        ((name, queue["depth"], queue["delayed"], now["running_by_queue"].get(name, 0),
          show.span(queue["oldest_age_seconds"]))
         for name, queue in now["queues"].items()),
    )  # fmt: skip
    click.echo()
    show.table(("WORKER", "RUNNING", "OF"), ((one["name"], one["running"], one["capacity"]) for one in now["workers"]))
    click.echo()
    rate, money = ended["success_rate"], costs["total"]["money"]
    tokens = costs["total"]["total_tokens"]
    show.facts([
        ("since", show.moment(ended["since"])),
        ("tasks ended", f"{ended['total_tasks']:,}"),
        ("succeeded", None if rate is None else f"{rate:.1%}"),
        ("a minute", f"{ended['throughput_per_minute']:,.1f}"),
        ("waited", _times(ended["waiting_seconds"])),
        ("ran", _times(ended["running_seconds"])),
        ("errors", ", ".join(f"{code} {count:,}" for code, count in ended["error_codes"].items()) or None),
        ("tokens", f"{tokens:,}"),
        ("money", None if money is None else f"{money:,.2f} {costs['currency']}"),
    ])  # fmt: skip


def _times(found: dict[str, float | None]) -> str | None:
    if found["p50"] is None:
        return None
    return f"half within {show.span(found['p50'])}, 95% within {show.span(found['p95'])}"


COMMANDS: Final = (schedules, trigger, contents, stats)
