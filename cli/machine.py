"""Commands for the machine that Pressroom runs on, with the settings it has there."""

from pathlib import Path
from typing import Final

import click

from cli import show
from cli.client import Connect
from cli.problems import BAD_OUTCOME
from cli.tasks import as_json

# What the modules of these commands need takes longer to import than most other commands take: they do it when called.


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def keys(arguments: tuple[str, ...]) -> int:
    """Make, list, rotate and revoke API keys, in the database: keys --help."""
    from jobs import keys as commands

    return commands.main(arguments)


@click.command()
def backup() -> int:
    """Dump the database into BACKUP_DIR; prints the file's name."""
    from jobs import backup as commands

    return commands.main(["dump"])


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
def restore(file: Path) -> int:
    """Restore a dump into the database, which must be empty or just started with."""
    from jobs import backup as commands

    return commands.main(["restore", str(file)])


@click.command()
@as_json
@click.pass_obj
def doctor(connect: Connect, json: bool) -> int:
    """Check settings, database, Redis, endpoints, versions, clocks and the service; say what to do."""
    from cli import doctor as checks

    found = checks.examine(connect)
    if json:
        show.as_json([check._asdict() for check in found])
    else:
        for check in found:
            show.text(f"{check.state:<8} {check.name}: {check.said}")
            if check.advice:
                show.text(f"{'':<8} -> {check.advice}")
    return BAD_OUTCOME if any(check.state == "PROBLEM" for check in found) else 0


COMMANDS: Final = (keys, backup, restore, doctor)
