"""Time zones, by names that mean the same here, in PostgreSQL, and on the next machine."""

from functools import cache
from typing import Final
from zoneinfo import available_timezones

_NOT_EVERYWHERE: Final = {"localtime", "posixrules", "Factory"}


@cache
def names() -> frozenset[str]:
    """The IANA names; finding them reads many files, so that is done once."""
    return frozenset(available_timezones() - _NOT_EVERYWHERE)
