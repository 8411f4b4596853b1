"""Which service, and with which key: options, else the environment, else `.env` here. Keys are in no argument,
where every user of the machine could read them."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from dotenv import dotenv_values

from cli.problems import WRONG, Problem
from jobs.secrets import learn

URL, KEY, KEY_FILE, MODEL = "PRESSROOM_URL", "PRESSROOM_API_KEY", "PRESSROOM_API_KEY_FILE", "PRESSROOM_MODEL"
_DEFAULT_PORT: Final = "8000"
_KEY: Final = re.compile(r"[!-~]+")


class Place(NamedTuple):
    """A service and what opens it; without a key, it must be open."""

    url: str
    key: str | None


def variable(name: str) -> str | None:
    """A variable's value, from the environment or `.env`; None where it is empty."""
    return os.environ.get(name) or _dotenv().get(name) or None


def find(url: str | None, key_file: str | None) -> Place:
    """What the options (or None) and the environment say.

    Raises:
        Problem: they contradict each other, or the file cannot be read.
    """
    given, here = os.environ, _dotenv()
    chosen = url or given.get(URL)
    if not chosen and here.get(URL) and _is_elsewhere(key_file, given, here):
        # Whoever wrote a .env that happens to lie here would be sent what is not from there: a key, or any file.
        raise Problem(f"{URL} stands in .env: so must the key itself, as {KEY}; or name the service by --url", WRONG)
    chosen = chosen or here.get(URL) or f"http://127.0.0.1:{_port()}"
    if not re.match(r"https?://[^/?#]", chosen):
        raise Problem(f"{URL} is no address that begins with http:// or https://", WRONG)
    key = _read(key_file) if key_file else _key(given) or _key(here)
    if key:
        learn([key])
        if not _KEY.fullmatch(key):
            raise Problem("the key has characters that no key has", WRONG)
    return Place(chosen.rstrip("/"), key)


def _is_elsewhere(key_file: str | None, given: Mapping[str, str], here: Mapping[str, str | None]) -> bool:
    """Whether the key, if there is one, does not stand in .env itself."""
    return bool(key_file or given.get(KEY) or given.get(KEY_FILE) or (here.get(KEY_FILE) and not here.get(KEY)))


def _port() -> str:
    port = variable("PORT") or _DEFAULT_PORT
    if not re.fullmatch(r"[0-9]{1,5}", port):
        # `1@another.host` would make it another address.
        raise Problem("PORT is no number of a port", WRONG)
    return port


def _dotenv() -> Mapping[str, str | None]:
    try:
        # As it stands there: ${NAME} would be another variable's secret.
        return dotenv_values(".env", interpolate=False) if Path(".env").is_file() else {}
    except (OSError, ValueError) as error:
        # Not what stands there: it may be a secret.
        raise Problem(f".env cannot be read as text ({type(error).__name__})", WRONG) from None


def _key(variables: Mapping[str, str | None]) -> str | None:
    if key := variables.get(KEY):
        return key.strip()
    file = variables.get(KEY_FILE)
    return _read(file) if file else None


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it holds more than a key"
        raise Problem(f"the key's file {file} cannot be read: {why}", WRONG) from None
