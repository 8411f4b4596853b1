"""The command `pressroom`: its options, its commands, and how it ends."""

import sys
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click

from cli import connection, machine, service, tasks
from cli.client import Client, Connect
from cli.problems import BAD_OUTCOME, INTERRUPTED, UNEXPECTED, WRONG, Problem, say
from jobs import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--url", help="The service; else PRESSROOM_URL, else this machine's.")
@click.option("--key-file", metavar="FILE", help="Holds the API key; else PRESSROOM_API_KEY or PRESSROOM_API_KEY_FILE.")
@click.option(
    "--patience", metavar="SECONDS", type=click.FloatRange(0), default=60.0, show_default=True,
    help="How long to wait for a service that is busy or restarts.",
)  # fmt: skip
@click.version_option(__version__, prog_name="pressroom", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context, url: str | None, key_file: str | None, patience: float) -> None:
    """Submit prompts to Pressroom, and see to it.

    Variables may stand in a file .env in the current directory. Exit codes: 0 done; 1 done, but a task failed or a
    check found something; 2 wrong usage or input; 3 no or too small a key; 4 there is no such thing; 5 its state does
    not allow it; 6 the service is away or busy; 70 a mistake of this command; 130 interrupted.
    """
    context.obj = context.obj or partial(_connect, url, key_file, patience)


def _connect(url: str | None, key_file: str | None, patience: float) -> Client:
    return Client(connection.find(url, key_file), patience)


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh"]))
def completion(shell: str) -> None:
    """Print what completes commands in a shell: eval "$(pressroom completion bash)"."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind  # noqa: S101 - click has both
    click.echo(kind(cli, {}, "pressroom", "_PRESSROOM_COMPLETE").source())


for command in (*tasks.COMMANDS, *service.COMMANDS, *machine.COMMANDS):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None, connect: Connect | None = None) -> int:
    """Run one command; returns its exit code.

    Args:
        connect: makes the client, in place of options and environment.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # whatever the locale says
    try:
        code = cli.main(arguments, prog_name="pressroom", standalone_mode=False, obj=connect)
    except Problem as problem:
        say(problem.message)
        return problem.code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    except BrokenPipeError:
        sys.stdout = None  # or it would be flushed once more
        return BAD_OUTCOME
    except OSError as error:
        say(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return WRONG
    except Exception as error:  # noqa: BLE001 - whatever it is, it is said in a line, and without secrets
        say(f"an answer or an input that this command does not know: {_told(error)}. Please report it.")
        return UNEXPECTED
    return code if isinstance(code, int) else 0


def _told(error: Exception) -> str:
    """What it is, and the last of our lines that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    last = [frame for frame in frames if Path(frame.filename).parent == Path(__file__).parent][-1]
    return f"{type(error).__name__}: {error} (cli/{Path(last.filename).name}, line {last.lineno})"
