"""API keys on the command line: `python -m jobs.keys make NAME --scope SCOPE | list | revoke | rotate`.

The token goes to standard output, once, and nothing else does; what is said about it goes to standard error.
"""

import argparse
import logging
import re
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, NoReturn

import orjson

from jobs import settings
from jobs.access import TOKEN, digest_of, new_token
from jobs.audit import record
from jobs.errors import PressroomError, Unavailable
from jobs.setting_values import SCOPES
from jobs.settings import Settings
from jobs.store.database import Database, Row, Session

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_RESERVED: Final = frozenset({"anonymous", "cli", "open"})  # what the audit calls others
_DURATION: Final = re.compile(r"([1-9][0-9]{0,4})([dhm])")
_SECONDS: Final = {"d": 86_400, "h": 3600, "m": 60}


class KeyProblem(PressroomError):
    """It cannot be done; the message says why."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line."""
        sys.stderr.write(f"pressroom: {message} (see python -m jobs.keys --help)\n")
        raise SystemExit(2)


def _name(text: str) -> str:
    if not _NAME.fullmatch(text) or text in _RESERVED:
        raise argparse.ArgumentTypeError(
            "a name has up to 64 letters, digits, dots, dashes and underscores, and is not one of "
            + ", ".join(sorted(_RESERVED))
        )
    return text


def _duration(text: str) -> int:
    match = _DURATION.fullmatch(text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time as 90d, 12h or 30m")
    return int(match[1]) * _SECONDS[match[2]]


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="python -m jobs.keys", description="API keys, kept hashed in PostgreSQL.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="make | list | revoke | rotate")
    make = commands.add_parser("make", help="make a key; its token is printed once")
    make.add_argument("name", type=_name, metavar="NAME")
    make.add_argument("--scope", required=True, choices=SCOPES)
    make.add_argument("--expires", type=_duration, metavar="90d", help="it ends after so long (d, h, m)")
    listed = commands.add_parser("list", help="all keys that were ever made, and those in API_KEYS")
    listed.add_argument("--json", action="store_true", help="as JSON")
    revoke = commands.add_parser("revoke", help="end a key, and the sessions and event streams begun with it")
    revoke.add_argument("which", metavar="NAME_OR_PREFIX")
    rotate = commands.add_parser("rotate", help="put a new key in another's place, of the same scope and lifetime")
    rotate.add_argument("name", type=_name, metavar="NAME")
    rotate.add_argument("--overlap", type=_duration, default=0, metavar="1d", help="the old one works for so long")
    return parser.parse_args(given)


def make(session: Session, configured: Settings, wanted: argparse.Namespace) -> str:
    """Make a key."""
    _not_in_settings(configured, wanted.name)
    session.all("bury_expired_key", {"name": wanted.name})
    return _insert(session, wanted.name, wanted.scope, wanted.expires)


def rotate(session: Session, configured: Settings, wanted: argparse.Namespace) -> str:
    """Make a key in another's place."""
    _not_in_settings(configured, wanted.name)
    old = session.one("replace_key", {"name": wanted.name, "overlap": wanted.overlap})
    if old is None:
        raise KeyProblem(f"no key named {wanted.name} is in force")
    return _insert(session, wanted.name, old["scope"], old["seconds"])


def revoke(session: Session, configured: Settings, wanted: argparse.Namespace) -> str:
    """End keys."""
    # Whoever pastes the whole token means its prefix; it must not get into messages.
    which = match[1] if (match := TOKEN.fullmatch(wanted.which)) else wanted.which.removeprefix("pr_")
    gone = session.all("revoke_keys", {"which": which})
    if not gone:
        _not_in_settings(configured, which)
        raise KeyProblem(f"no key with the name or prefix {which} is in force")
    for row in gone:
        record(session, who="cli", action="keys revoke", object=f"{row['name']} pr_{row['prefix']}")
        sys.stderr.write(f"revoked {row['name']} (pr_{row['prefix']})\n")
    return ""


def show(session: Session, configured: Settings, wanted: argparse.Namespace) -> str:
    """All keys, as a table or as JSON."""
    if wanted.json:
        named = ("name", "prefix", "scope", "state", "created_at", "last_used_at", "expires_at", "revoked_at")
        ours: list[Row] = [{"name": key.name, "scope": key.scope, "state": "in force"} for key in configured.api_keys]
        rows = [*ours, *session.all("list_keys")]
        facts = [{name: row.get(name) for name in named} for row in rows]
        return orjson.dumps(facts, option=orjson.OPT_UTC_Z).decode()
    titles = ("NAME", "KEY", "SCOPE", "STATE", "CREATED", "LAST USED", "ENDS")
    given = [(key.name, "API_KEYS", key.scope, "in force", "-", "-", "-") for key in configured.api_keys]
    table = [titles, *given, *(_line(row) for row in session.all("list_keys"))]
    widths = [max(len(line[column]) for line in table) for column in range(len(titles))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in table)


def _line(row: Row) -> tuple[str, ...]:
    ends = min((moment for moment in (row["expires_at"], row["revoked_at"]) if moment), default=None)
    times = (_shown(row["created_at"]), _shown(row["last_used_at"]), _shown(ends))
    return row["name"], f"pr_{row['prefix']}", row["scope"], row["state"], *times


def _shown(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d %H:%M") if moment else "-"


def _not_in_settings(configured: Settings, name: str) -> None:
    if any(key.name == name for key in configured.api_keys):
        raise KeyProblem(f"the key {name} is in API_KEYS; change it there")


def _insert(session: Session, name: str, scope: str, seconds: float | None) -> str:
    token, prefix = new_token()
    facts = {"prefix": prefix, "name": name, "digest": digest_of(token), "scope": scope, "seconds": seconds}
    row = session.one("insert_key", facts)
    if row is None:
        raise KeyProblem(f"there is a key named {name}; revoke or rotate it, or take another name")
    ends = f", until {_shown(row['expires_at'])} UTC" if row["expires_at"] else ""
    sys.stderr.write(f"key {name} (pr_{prefix}) with the scope {scope}{ends}; it is not shown again:\n")
    return token


_COMMANDS: Final[dict[str, Callable[[Session, Settings, Any], str]]] = {
    "make": make, "list": show, "revoke": revoke, "rotate": rotate,
}  # fmt: skip


def main(given: Sequence[str] | None = None) -> int:
    """The command line: 0, 1 when it cannot be done, 2 for wrong arguments or settings."""
    wanted = _arguments(given)
    configured = settings.load_or_exit()
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)  # we say it in one line
    database = Database(configured.database_url, max_size=1)
    database.open()
    try:
        with database.transaction() as session:
            said = _COMMANDS[wanted.command](session, configured, wanted)
            if wanted.command in ("make", "rotate"):
                prefix = said.rpartition("_")[0]
                record(session, who="cli", action=f"keys {wanted.command}", object=f"{wanted.name} {prefix}")
    except Unavailable as error:
        sys.stderr.write(f"pressroom: {settings.unreachable(configured, error)}\n")
        return 1
    except KeyProblem as problem:
        sys.stderr.write(f"pressroom: {problem}\n")
        return 1
    finally:
        database.close()
    sys.stdout.write(f"{said}\n" if said else "")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
