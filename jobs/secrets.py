"""What must never be shown, and how it is taken out of a text: the secrets of the settings, and what looks like one.

Used where texts leave a process or are kept: for every line of the logs (jobs/logs.py), by `TaskError`, by what
`make run` passes on from its processes. Pure, but for what it was told to keep secret.
"""

import json
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, unquote

HIDDEN: Final = "[redacted]"

_SHORTEST: Final = len("pwd=abc")  # that looks like a secret
_SHORT: Final = 6
"""Shorter secrets are hidden only where they stand alone: within words, they would hide innocent text."""

# ` = value`, `": "value"`: the sign, and the value with the quotes around it, however often these are escaped
_GIVEN_TO = (
    r"""(\\*+["']?+\s*+%s\s*+(?:b(?=["']))?+)(?!\[redacted)(?:(\\*+["'])(?!\[redacted)(?:(?!\3)[^\n\r])++\3|%s)"""
)
_OUR_WORDS: Final = r"(?!(?<=:)scope(?![^\s,)])|(?<=: )(?:Not|Must|May|Missing|Unknown|Shorter|Longer)(?!\S))"
"""What follows a colon in our own texts, `name:secret:scope` and `CALLBACK_SECRET: Not ...`, is no secret."""

_GIVEN: Final = rf"\1\2\3{HIDDEN}\3"
_PATTERNS: Final = (
    # user:password@, and tokens in their place
    (("://",), re.compile(r"(\w://)[^\s/?#\"'<>@\\]+(?:@[^\s/?#\"'<>@\\]+)*@"), rf"\1{HIDDEN}@"),
    # header fields, also in the repr of a dict or list of them; the rest of the line where nothing is quoted
    (
        ("authorization", "cookie"),
        re.compile(r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie)" + _GIVEN_TO % ("[:=,]", r"[^\n\r\"'\\]+")),
        _GIVEN,
    ),
    (
        ("bearer", "basic"),
        re.compile(r"(?i)\b(bearer|basic)\s+(?:(?=\S*[\d=])[\w.~+/=-]{6,}|[\w.~+/=-]{16,})"),
        rf"\1 {HIDDEN}",
    ),
    # what names itself so: password=..., "api_key": "...", X-API-Key: ...
    (
        ("passw", "pwd", "secret", "token", "key", "signature"),
        re.compile(
            r"(?i)(password|passwd|pwd|secret|token|(?:api|access|private)[_-]?key|signature)"
            + _GIVEN_TO % ("[:=]", _OUR_WORDS + r"[^\s\"'&,;)}\]\\]+")
        ),
        _GIVEN,
    ),
    (("pr_", "sk-", "whsec_"), re.compile(r"\b(pr_[A-Za-z0-9]+_|sk-|whsec_)[\w+/=-]{8,}"), rf"\1{HIDDEN}"),
)


class Redactor:
    """Takes secrets out of texts."""

    def __init__(self) -> None:
        self._known: frozenset[str] = frozenset()
        self._forms: tuple[str, ...] = ()
        self._pattern = re.compile("(?!)")
        self._shortest = _SHORTEST

    def learn(self, secrets: Iterable[str]) -> None:
        """Keep these secret, too, however they are written."""
        self._known |= {secret for secret in secrets if secret}
        forms = {form for secret in self._known for form in _forms_of(secret)}
        self._forms = tuple(sorted(forms, key=len, reverse=True))
        self._shortest = min([_SHORTEST, *map(len, forms)])
        self._pattern = re.compile("|".join(map(_as_pattern, self._forms)) or "(?!)")

    def clean(self, text: str) -> str:
        """The text without them."""
        if len(text) < self._shortest:
            return text
        for form in self._forms:
            if form in text:
                text = self._pattern.sub(HIDDEN, text)
                break
        lower = text.lower()
        for hints, pattern, instead in _PATTERNS:
            for hint in hints:
                if hint in lower:
                    text = pattern.sub(instead, text)
                    break
        return text


def _forms_of(secret: str) -> set[str]:
    """As it is, in a URL, in a repr and in JSON, and these in JSON once more."""
    forms = {secret, unquote(secret)}
    forms |= {quote(form, safe=safe) for form in forms for safe in ("", "/")}
    forms |= {show(form)[1:-1] for form in forms for show in (repr, ascii, json.dumps)}
    return forms | {json.dumps(form, ensure_ascii=False)[1:-1] for form in forms}


def _as_pattern(form: str) -> str:
    return re.escape(form) if len(form) >= _SHORT else rf"(?<!\w){re.escape(form)}(?!\w)"


_redactor = Redactor()
learn = _redactor.learn
clean = _redactor.clean
