"""Sessions of browsers, kept in PostgreSQL: every web process knows them, restarts do not end them, logging out does.

A cookie holds 256 random bits and nothing else; there is nothing in it to forge, and no secret to sign it with.
"""

import hmac
import secrets
from typing import Any, Final

from jobs.access import Key, Keyring, digest_of
from jobs.audit import record
from jobs.store.database import Database

LIFE_SECONDS: Final = 12 * 3600


class Sessions:
    """Begins, finds and ends them. Methods raise `Unavailable`."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    def begin(self, key: Key, previous: str, act: dict[str, Any]) -> str:
        """A new session, never one that the browser brought along; that one is ended.

        Args:
            act: facts for the audit, recorded in the same transaction.

        Returns:
            What the cookie is to hold.
        """
        token = secrets.token_urlsafe(32)
        facts = {"digest": digest_of(token), "name": key.name, "prefix": key.prefix, "proof": _proof(token, key)}
        with self._database.transaction() as session:
            session.all("end_session", {"digest": digest_of(previous)})
            session.all("keep_session", {**facts, "seconds": LIFE_SECONDS})
            record(session, **act)
        return token

    def key_of(self, token: str) -> Key | None:
        """The key that the session was begun with; None when either has ended."""
        row = self._database.one("get_session", {"digest": digest_of(token)})
        if row is None:
            return None
        key = self._keyring.living(row["key_name"], row["key_prefix"])
        # In API_KEYS, the same name may have got another secret meanwhile.
        return key if key and hmac.compare_digest(bytes(row["proof"]), _proof(token, key)) else None

    def end(self, token: str, act: dict[str, Any]) -> None:
        """End it, with its act for the audit."""
        with self._database.transaction() as session:
            session.all("end_session", {"digest": digest_of(token)})
            record(session, **act)


def _proof(token: str, key: Key) -> bytes:
    return hmac.digest(token.encode(), key.digest, "sha256")


def csrf_of(token: str) -> str:
    """What forms of this session carry; tells nothing of the session itself."""
    return hmac.digest(token.encode("utf-8", "surrogateescape"), b"form", "sha256").hex()
