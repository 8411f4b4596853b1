"""API keys: from the settings, and those that were made on the command line and are kept in PostgreSQL.

A token is `pr_<prefix>_<secret>`: the prefix is public and finds the row, the secret has 256 random bits. Guessing it
is hopeless however quick one try is, so a plain SHA-256 is kept; the slow hashes that passwords need would only cost
every request. Comparisons take the same time wherever the difference is.
"""

import hashlib
import hmac
import re
import secrets
import threading
import time
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from jobs.errors import SettingsError, Unavailable
from jobs.setting_values import Scope
from jobs.settings import Settings, exposed_by
from jobs.store.database import Database

log = structlog.get_logger(__name__)

TOKEN: Final = re.compile(r"pr_([0-9a-f]{12})_[0-9a-f]{64}")

_FRESH_SECONDS: Final = 2.0  # how late a key that was revoked elsewhere is noticed
_AGAIN_SECONDS: Final = 0.05  # an unknown key may just have been made; but nobody makes us ask for ever
_PATIENCE_SECONDS: Final = 2.0
_NOTE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Key:
    """A key that works.

    Attributes:
        prefix: the public part of its token; empty for keys from API_KEYS.
        digest: SHA-256 of the token.
    """

    name: str
    scope: Scope
    digest: bytes = field(repr=False)
    prefix: str = ""
    id: int = 0


def digest_of(secret: str) -> bytes:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def new_token() -> tuple[str, str]:
    """A token and its prefix."""
    prefix = secrets.token_hex(6)
    return f"pr_{prefix}_{secrets.token_hex(32)}", prefix


@dataclass(slots=True)
class _Known:
    """The stored keys at some moment.

    Attributes:
        ends: prefix -> the moment on our clock at which the key ends, for those that do.
        failure: why this moment's are not known; they are then those of the last one that is.
    """

    at: float
    ever: bool = False
    keys: dict[str, Key] = field(default_factory=dict)
    ends: dict[str, float] = field(default_factory=dict)
    noted: dict[int, float] = field(default_factory=dict)
    failure: Unavailable | None = None
    is_loaded: bool = True


class Keyring:
    """Finds keys; remembers the stored ones for a moment, so that requests need not ask PostgreSQL for them.

    While PostgreSQL is away, keys from the settings, and stored ones that were known, go on working.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._given = [Key(key.name, key.scope, digest_of(key.secret)) for key in settings.api_keys]
        self._exposed = exposed_by(settings)
        self._database = database
        self._lock = threading.Lock()
        self._known = _Known(at=float("-inf"), is_loaded=False)

    def is_open(self) -> bool:
        """Whether everybody who reaches us may do everything: no key was ever configured or made, and only this
        machine reaches us. Revoking the last stored key does not open the service again.

        Raises:
            Unavailable: that is not known now.
        """
        if self._given or self._exposed:
            return False
        known = self._fresh(_FRESH_SECONDS)
        if known.failure and not known.is_loaded:
            raise known.failure
        return not known.ever

    def find(self, secret: str, name: str | None = None) -> Key | None:
        """The living key with this secret, and this name when one is given.

        Raises:
            Unavailable: it is none of those that are known, and PostgreSQL cannot be asked.
        """
        digest = digest_of(secret)
        found = None
        for key in self._given:
            if hmac.compare_digest(key.digest, digest):
                found = key
        if found is None and (token := TOKEN.fullmatch(secret)):
            stored = self._stored(token[1])
            found = stored if stored and hmac.compare_digest(stored.digest, digest) else None
        if found is None or (name is not None and not hmac.compare_digest(found.name.encode(), name.encode())):
            return None
        return found

    def living(self, name: str, prefix: str) -> Key | None:
        """The living key of that name from the settings, or with that prefix; raises as `find`."""
        if prefix:
            return self._stored(prefix)
        return next((key for key in self._given if key.name == name), None)

    def used(self, key: Key) -> None:
        """Note that it was used: once a minute, in a thread of its own, out of the request's way."""
        now = time.monotonic()
        if key.id and now - self._known.noted.get(key.id, float("-inf")) > _NOTE_SECONDS:
            self._known.noted[key.id] = now
            threading.Thread(target=self._note, args=(key.id,), name="key used", daemon=True).start()

    def _note(self, key_id: int) -> None:
        try:
            self._database.all("note_key_used", {"id": key_id})
        except Unavailable as error:
            log.warning("use of a key not noted", reason=str(error))

    def _stored(self, prefix: str) -> Key | None:
        known = self._fresh(_FRESH_SECONDS)
        if prefix not in known.keys:
            known = self._fresh(_AGAIN_SECONDS)
        key = known.keys.get(prefix)
        if key is None and known.failure:
            raise known.failure
        if key and known.ends.get(prefix, float("inf")) <= time.monotonic():
            return None
        return key

    def _fresh(self, seconds: float) -> _Known:
        """What is known, not older than so much; one thread asks, and a failure, too, is remembered for a while."""
        if self._known.failure:
            seconds = _FRESH_SECONDS
        if time.monotonic() - self._known.at <= seconds:
            return self._known
        if not self._lock.acquire(timeout=_PATIENCE_SECONDS):
            # Who asks waits for a server that hangs; nobody else does.
            return replace(self._known, failure=Unavailable("the keys could not be read in time"))
        try:
            if time.monotonic() - self._known.at > seconds:
                self._known = self._load()
            return self._known
        finally:
            self._lock.release()

    def _load(self) -> _Known:
        began = time.monotonic()
        try:
            (row,) = self._database.all("living_keys")
        except Unavailable as error:
            return replace(self._known, at=time.monotonic(), failure=error)
        known = _Known(at=began, ever=row["ever"], noted=self._known.noted)
        for facts in row["keys"]:
            prefix = facts["prefix"]
            digest = bytes.fromhex(facts["digest"])
            known.keys[prefix] = Key(facts["name"], facts["scope"], digest, prefix, facts["id"])
            if facts["seconds"] is not None:
                known.ends[prefix] = began + facts["seconds"]
        return known


def check_exposure(settings: Settings) -> None:
    """Refuse to start a service that is open to others: there must be a key, in API_KEYS or in PostgreSQL.

    While PostgreSQL cannot be asked, none is known, and that is refused, too; whoever starts us tries again.

    Raises:
        SettingsError: naming HOST or APP_ENV, and what to do.
    """
    if settings.api_keys or not (problems := exposed_by(settings)):
        return
    database = Database(settings.database_url, max_size=1)
    database.open()
    try:
        (row,) = database.all("living_keys")
    except Unavailable as error:
        unknown = f"; or PostgreSQL has one, but cannot be asked ({error})"
        raise SettingsError({name: why + unknown for name, why in problems.items()}) from error
    finally:
        database.close()
    if not row["ever"]:
        raise SettingsError(problems)
