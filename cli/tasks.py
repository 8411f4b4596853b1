"""Commands about tasks and batches."""

import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import click
import orjson

from cli import batch, show
from cli.client import Client, Connect
from cli.connection import MODEL, variable
from cli.live import Line
from cli.problems import BAD_OUTCOME, INTERRUPTED, WRONG, Problem, say
from cli.reading import json_object
from cli.watching import watch_batch, watch_task
from jobs.lifecycle import Status


class Text(click.ParamType[str]):
    """A text, whatever the locale says; what is not UTF-8 is wrong usage."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As typed."""
        try:
            return os.fsencode(value).decode()
        except UnicodeError:
            self.fail("is not UTF-8", param, ctx)


TEXT: Final = Text()
as_json = click.option("--json", "json", is_flag=True, help="Print JSON.")
of_batch = click.option("--batch", "is_batch", is_flag=True, help="The number is a batch's.")
model_option = click.option("--model", "-m", type=TEXT, help=f"The model; of prompts, else {MODEL}.")
priority_option = click.option("--priority", "-p", type=click.IntRange(1, 10), help="1 to 10, 10 is most urgent.")


@click.command()
@click.argument("prompt", required=False)
@click.option("--file", "-f", type=click.Path(dir_okay=False, allow_dash=True), help="Has the prompt; - is stdin.")
@model_option
@priority_option
@click.option("--type", "task_type", type=TEXT, help="The task type; text_generation if not given.")
@click.option("--input", "given", type=TEXT, metavar="JSON", help="The input of such a task, as its type wants it.")
@click.option("--key", "key", type=TEXT, help="Idempotency-Key: the same one again gives the same task.")
@click.option("--wait", "-w", is_flag=True, help="Until it has ended; show its text as it comes.")
@as_json
@click.pass_obj
def submit(
    connect: Connect,
    prompt: str | None,
    file: str | None,
    model: str | None,
    priority: int | None,
    task_type: str | None,
    given: str | None,
    key: str | None,
    wait: bool,
    json: bool,
) -> int:
    """Submit one task: PROMPT, a file, or what comes on standard input."""
    if key and not re.fullmatch("[ -~]+", key):
        raise Problem("--key may only have ASCII characters", WRONG)
    body: dict[str, Any] = {"model": model, "priority": priority, "task_type": task_type}
    if given is not None:
        body["input"] = _input(given)
    if not task_type or prompt is not None or file is not None:
        body["prompt"] = _prompt(prompt, file)
        body["model"] = model or variable(MODEL)
    body = {name: value for name, value in body.items() if value is not None}
    if not task_type and "model" not in body:
        raise Problem(f"name a model: --model, or {MODEL}", WRONG)
    if wait and not task_type:
        body["stream"] = True
    with connect() as client:
        task, _ = client.create("/api/v1/tasks", body, key or uuid4().hex)
        if wait:
            try:
                return _watch(client, watch_task, task["id"], json=json, only_text=True)
            except Problem as problem:
                problem.message += f"\n  {_goes_on('task', task['id'])}"
                raise
    if json:
        show.as_json(task)
    else:
        show.text(f"task {task['id']} {task['status']} ({task['queue']})")
    return 0


def _input(given: str) -> dict[str, Any]:
    try:
        return json_object(given)
    except ValueError as error:
        raise Problem(f"--input {error}", WRONG) from None


def _prompt(prompt: str | None, file: str | None) -> str:
    if prompt is not None and file is not None:
        raise Problem("give a prompt or --file, not both", WRONG)
    if prompt is None and file is None and sys.stdin.isatty():
        raise Problem("name a prompt, or a file with --file", WRONG)
    try:
        if prompt not in (None, "-"):
            return os.fsencode(str(prompt)).decode()
        content = Path(file).read_bytes() if file not in (None, "-") else sys.stdin.buffer.read()
        return content.decode("utf-8-sig").replace("\r\n", "\n").rstrip("\n")
    except OSError as error:
        raise Problem(f"{file}: {error.strerror}", WRONG) from None
    except UnicodeError:
        raise Problem("the prompt is not UTF-8", WRONG) from None


def _watch(client: Client, how: Callable[..., bool], number: int, **options: Any) -> int:
    """Watch to the end; what it then is decides about the exit code."""
    try:
        is_good = how(client, number, **options)
    except KeyboardInterrupt:
        say(_goes_on("batch" if how is watch_batch else "task", number))
        return INTERRUPTED
    return 0 if is_good else BAD_OUTCOME


def _goes_on(what: str, number: int) -> str:
    return f"{what} {number} goes on; pressroom watch {'--batch ' if what == 'batch' else ''}{number} shows it"


@click.command("batch")
@click.argument("source", metavar="FILE", type=click.Path(dir_okay=False, allow_dash=True))
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Where the answers go; else stdout."
)
@click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), help="Of FILE; else as its name says, or jsonl.")
@model_option
@priority_option
@click.option("--type", "task_type", type=TEXT, help="The task type of lines that name none.")
@click.option("--again", is_flag=True, help="Submit anew what was submitted before; needs -o.")
@as_json
@click.pass_obj
def run_batch(
    connect: Connect,
    source: str,
    output: Path | None,
    form: str | None,
    model: str | None,
    priority: int | None,
    task_type: str | None,
    again: bool,
    json: bool,
) -> int:
    """Submit the tasks in FILE (JSONL or CSV; - is stdin), and write their answers as JSONL, in the same order.

    The same command goes on where an earlier one was interrupted, however that happened. Nothing is submitted twice.
    """
    if again and not output:
        # Nothing would tell the next run of this one what it goes on with.
        raise Problem("--again needs a file for the answers: -o FILE", WRONG)
    wanted = {"model": model, "priority": priority, "task_type": task_type}
    defaults = {name: value for name, value in wanted.items() if value is not None}
    with connect() as client, _file(source) as path:
        name = "stdin" if source == "-" else source
        form = form or ("csv" if source.lower().endswith(".csv") else "jsonl")
        tasks = batch.Source(path, name, form, defaults, variable(MODEL))
        plan = batch.Plan.of(tasks)
        book = batch.Book.begin(output, client.url, plan.digest, again=again)
        with batch.Output(output, sys.stdout.buffer) as lines:
            run = batch.Run(client, tasks, plan, book, lines)
            if again and lines.written == run.total:
                raise Problem(f"{output} has all answers already; --again needs another file", WRONG)
            before, began = lines.written, time.monotonic()
            if before:
                say(f"{before:,} of {run.total:,} answers are in {output} already")
            try:
                with Line(lambda: str(run.progress)):
                    run.submit()
                    run.collect()
            except KeyboardInterrupt:
                say(_interrupted(run, lines, output))
                return INTERRUPTED
            except Problem as problem:
                if book.batches:
                    written = f"{lines.written:,} of {run.total:,} answers are written"
                    problem.message += f"\n  {written}; call it again to go on"
                raise
    seconds = time.monotonic() - began
    summary = {
        "total": run.total, "completed": run.total - lines.bad, "failed": lines.bad, "batches": book.batches,
        "seconds": round(seconds, 1),
    }  # fmt: skip
    if json:
        click.echo(orjson.dumps(summary).decode(), err=output is None)
    else:
        bad = f", {lines.bad:,} of them failed or cancelled" if lines.bad else ""
        new = lines.written - before
        say(f"{run.total:,} answers{bad}; {new:,} in {show.span(seconds)}, {new / max(seconds, 0.001):,.0f}/s")
    return BAD_OUTCOME if lines.bad else 0


def _interrupted(run: batch.Run, lines: batch.Output, output: Path | None) -> str:
    numbers = " ".join(map(str, run.book.batches))
    stop = f"; pressroom cancel --batch {numbers} stops them" if numbers else ""
    where = f"{lines.written:,} of {run.total:,} answers are in {output}" if output else "interrupted"
    return f"{where}; the same command goes on. What was submitted goes on, too{stop}"


@contextmanager
def _file(source: str) -> Iterator[Path]:
    """A file that can be read twice: what comes through a pipe, named or not, cannot."""
    if source != "-" and Path(source).is_file():
        yield Path(source)
        return
    with tempfile.NamedTemporaryFile(prefix="pressroom-") as copy:
        with nullcontext(sys.stdin.buffer) if source == "-" else Path(source).open("rb") as given:
            shutil.copyfileobj(given, copy)
        copy.flush()
        yield Path(copy.name)


@click.command()
@click.argument("number", type=int)
@of_batch
@click.option("--events", is_flag=True, help="A task's events, too.")
@as_json
@click.pass_obj
def get(connect: Connect, number: int, is_batch: bool, events: bool, json: bool) -> None:
    """Show a task, or a batch."""
    with connect() as client:
        found = client.get(f"/api/v1/{'batches' if is_batch else 'tasks'}/{number}")
        log = client.get(f"/api/v1/tasks/{number}/events") if events and not is_batch else None
    if json:
        show.as_json(found if log is None else {**found, "events": log})
    elif is_batch:
        show.batch(found)
    else:
        show.task(found)
        for event in log or ():
            show.text(f"  {show.moment(event['at'])}  {event['to_status']:<10}  {event['worker'] or ''}".rstrip())


@click.command("list")
@click.option("--status", type=TEXT, metavar="STATE,...", help=", ".join(Status))
@click.option("--type", "task_type", type=TEXT)
@click.option("--queue", type=click.Choice(["high", "default", "low"]))
@click.option("--batch", "batch_id", type=int)
@click.option("--account", "account_id", type=int)
@click.option("--limit", "-n", type=click.IntRange(0), default=20, show_default=True, help="0: all.")
@as_json
@click.pass_obj
def list_tasks(connect: Connect, /, limit: int, json: bool, **filters: Any) -> None:
    """List tasks, newest first."""
    with connect() as client:
        found = client.pages("/api/v1/tasks", limit or None, **filters)
        if json:
            show.as_json_list(found)
            return
        titles = ("ID", "STATUS", "PRIO", "TYPE", "MODEL", "CREATED", "PROMPT")
        show.table(titles, (_line(task) for task in found))


def _line(task: dict[str, Any]) -> tuple[Any, ...]:
    said = task["prompt"] or orjson.dumps(task["input"]).decode()
    return (
        task["id"], task["status"], task["priority"], task["task_type"], task["model"], show.moment(task["created_at"]),
        show.cut(said, 1000),
    )  # fmt: skip


@click.command()
@click.argument("number", type=int)
@of_batch
@as_json
@click.pass_obj
def watch(connect: Connect, number: int, is_batch: bool, json: bool) -> int:
    """Watch a task, or a batch, until it has ended: states, progress, text. With --json, an event on each line."""
    with connect() as client:
        return _watch(client, watch_batch if is_batch else watch_task, number, json=json)


def _change(name: str, done: str, text: str) -> click.Command:
    @click.command(name, help=text)
    @click.argument("numbers", type=int, nargs=-1, required=True)
    @of_batch
    @as_json
    @click.pass_obj
    def change(connect: Connect, numbers: tuple[int, ...], is_batch: bool, json: bool) -> int:
        what = "batch" if is_batch else "task"
        code = 0
        with connect() as client:
            for number in numbers:
                try:
                    path = f"/api/v1/{'batches' if is_batch else 'tasks'}/{number}/{name}"
                    found = client.post(path)
                except Problem as problem:
                    if len(numbers) == 1:
                        raise
                    say(problem.message)
                    code = code or problem.code
                    continue
                if json:
                    show.as_json(found)
                else:
                    wish = " (it is being stopped)" if found.get("cancel_requested") else ""
                    show.text(f"{what} {number} {done}: {found['status']}{wish}")
        return code

    return change


cancel = _change("cancel", "cancelled", "Cancel tasks, or batches.")
retry = _change("retry", "runs again", "Run failed or cancelled tasks again, or what failed of batches.")

COMMANDS: Final = (submit, run_batch, get, list_tasks, watch, cancel, retry)
