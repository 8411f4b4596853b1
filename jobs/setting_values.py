"""What single settings mean: parsers and checks, each raising `ValidationError` with what is wrong."""

import ipaddress
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

import limits
import psycopg
from marshmallow import ValidationError, validate
from psycopg.conninfo import conninfo_to_dict

from jobs import zones
from jobs.http import is_callable
from jobs.priority import QUEUES
from jobs.webhooks.guard import Networks
from jobs.webhooks.signing import key_of

Scope = Literal["read", "submit", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "submit", "admin")
"""What a key may do, smallest first; each includes the ones before it."""

SENTINEL_SCHEMES = ("redis+sentinel", "rediss+sentinel")
_SENTINEL_PORT = 26379


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A bootstrap key from `API_KEYS`."""

    name: str
    secret: str = field(repr=False)
    scope: Scope


def passwords_in(url: str) -> list[str]:
    """The passwords in a URL: the one before the host, and those among the parameters."""
    parts = urlsplit(url)
    given = [value for name, value in parse_qsl(parts.query) if name.endswith("password")]
    return [password for password in (parts.password, *given) if password]


def secrets_in(value: str) -> list[str]:
    """What may be a secret in a variable that holds one and is malformed."""
    found = [value, *(part for key in value.split(",") for part in key.split(":")[1:] if len(part) >= 6)]
    with suppress(ValueError):
        found += passwords_in(value)
    return [secret for secret in found if secret not in SCOPES]


def url(*schemes: str) -> Any:
    def check(value: str) -> None:
        if not value:
            return
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError as error:
            raise ValidationError("Not a valid URL.") from error
        if parts.scheme not in schemes or not (parts.netloc or parts.path.strip("/")):
            raise ValidationError(f"Not a URL with one of the schemes {', '.join(schemes)}.")
        if parts.scheme in ("http", "https") and not is_callable(value):
            raise ValidationError("Not a valid URL.")

    return check


def database_url(value: str) -> None:
    """`postgresql://user:password@host:port/name?parameter=value`, with the parameters that libpq knows."""
    url("postgresql", "postgres")(value)
    try:
        conninfo_to_dict(value)
    except psycopg.ProgrammingError:
        # What libpq says of it may hold the password.
        raise ValidationError(
            "libpq cannot read it: a parameter that it does not know, or a stray '%' or '@'?"
        ) from None


def redis_url(value: str) -> None:
    """`redis://`, `rediss://` (TLS), `unix://`; `redis+sentinel://` and `rediss+sentinel://`."""
    scheme = value.partition("://")[0]
    if scheme not in SENTINEL_SCHEMES:
        url("redis", "rediss", "unix")(value)
        return
    try:
        sentinels(value)
    except ValueError:
        raise ValidationError(f"Not {scheme}://host:port,host:port/service/database.") from None


def unverified(url: str) -> str:
    """The URL of a Redis whose certificate nobody vouches for, as Heroku's."""
    if not url.startswith("rediss"):
        return url
    return f"{url}{'&' if urlsplit(url).query else '?'}ssl_cert_reqs=none"


@dataclass(frozen=True, slots=True)
class Sentinels:
    """A Redis that sentinels watch over: whom to ask for it, by what name; `url` has all else but its address."""

    addresses: tuple[tuple[str, int], ...]
    service: str
    url: str = field(repr=False)
    sentinel_password: str | None = field(repr=False)


def sentinels(url: str) -> Sentinels:
    """`redis+sentinel://user:password@host:port,host:port/service/database?sentinel_password=...`.

    Raises:
        ValueError: it is none.
    """
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    addresses = tuple(_address(host) for host in hosts.split(","))
    if not service or not (database or "0").isdigit():
        raise ValueError("the name of the service is missing, or the number of the database is none")
    query = dict(parse_qsl(parts.query))
    password = query.pop("sentinel_password", None)
    netloc = f"{login}@sentinel" if login else "sentinel"
    plain = parts._replace(
        scheme=parts.scheme.removesuffix("+sentinel"), netloc=netloc, path=f"/{database or 0}", query=urlencode(query)
    )
    return Sentinels(addresses, service, plain.geturl(), password)


def _address(host: str) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    if not parts.hostname:
        raise ValueError("a host is missing")
    return parts.hostname, parts.port or _SENTINEL_PORT


def header_value(value: str) -> None:
    if not re.fullmatch(r"[!-~]*", value):
        raise ValidationError("May only have visible ASCII characters, without spaces.")


def seconds(least: float, most: float) -> Any:
    return validate.Range(least, most, error="Must be a number of seconds from {min} to {max}.")


def rate_limit(value: str) -> None:
    """`600/minute`, `10/second;1000/hour`; empty: none."""
    try:
        parsed = limits.parse_many(value) if value else []
    except ValueError:
        raise ValidationError("Not a rate as 600/minute (several: separated by ;), or nothing at all.") from None
    if any(not (limit.amount and limit.get_expiry()) for limit in parsed):
        raise ValidationError("A rate must be above zero.")


def readable_file(value: str) -> None:
    if value and not os.access(value, os.R_OK):
        raise ValidationError("There is no such readable file.")


def readable_directory(value: str) -> None:
    if value and not Path(value).is_dir():
        raise ValidationError("There is no such directory.")


def zone(value: str) -> None:
    if value not in zones.names():
        raise ValidationError("Not an IANA time zone.")


def log_level(value: str) -> str:
    level = value.upper()
    if level not in {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}:
        raise ValidationError("Must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL.")
    return level


def queues(value: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in value.split(",") if part.strip())
    if not names or set(names) - set(QUEUES) or len(set(names)) < len(names):
        raise ValidationError(f"Must be some of {', '.join(QUEUES)}, comma-separated, each at most once.")
    return names


def shares(value: str) -> dict[str, float]:
    """`high=1.0,default=0.9,low=0.7`; a queue left out may use everything."""
    shares = dict.fromkeys(map(str, QUEUES), 1.0)
    for part in filter(None, (part.strip() for part in value.split(","))):
        name, _, number = part.partition("=")
        try:
            share = float(number)
        except ValueError:
            share = 0.0
        if name.strip() not in shares or not 0 < share <= 1:
            raise ValidationError(f"{part!r} is not queue=share with a share above 0 and up to 1.")
        shares[name.strip()] = share
    return shares


def fallbacks(value: str) -> dict[str, tuple[str, ...]]:
    """`content_generation=model-b|model-c,text_generation=model-b`."""
    found: dict[str, tuple[str, ...]] = {}
    for part in filter(None, (part.strip() for part in value.split(","))):
        name, _, given = part.partition("=")
        models = tuple(model.strip() for model in given.split("|"))
        if not name.strip() or not all(models):
            raise ValidationError(f"{part!r} is not task_type=model|model...")
        found[name.strip()] = models
    return found


def callback_secret(value: str) -> str | None:
    if value:
        try:
            key_of(value)
        except ValueError as error:
            raise ValidationError(str(error)) from error
    return value or None


def networks(value: str) -> Networks:
    """`10.0.0.0/8,fd00::/8`."""
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in value.split(",") if part.strip())
    except ValueError as error:
        raise ValidationError(f"Not networks as 10.0.0.0/8, comma-separated: {error}.") from error


def api_keys(value: str) -> tuple[ApiKey, ...]:
    keys: list[ApiKey] = []
    for position, part in enumerate(filter(None, (part.strip() for part in value.split(","))), start=1):
        # The message names the position only: what was written may be a secret.
        fields = part.split(":")
        if len(fields) != 3 or not fields[0] or len(fields[1]) < 16 or fields[2] not in SCOPES:
            raise ValidationError(
                f"Key number {position} is not name:secret:scope with a secret of 16 characters or more "
                f"(without ':' and ',') and one of the scopes {', '.join(SCOPES)}."
            )
        keys.append(ApiKey(fields[0], fields[1], fields[2]))
    if len({key.name for key in keys}) < len(keys):
        raise ValidationError("Two keys have the same name.")
    return tuple(keys)
