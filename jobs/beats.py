"""How often processes beat, and for how long a silent one is still believed in. Pure."""

from typing import Final

BEAT_SECONDS: Final = 2.0

LEASE_SECONDS: Final = 10.0
"""A worker that has not beaten for this long is given up for dead, and its tasks go to others."""

STOP_SECONDS: Final = 8.5
"""A worker that could not beat for this long stops what it does, before others may take it over."""

WATCH_SECONDS: Final = 1.0
"""How often somebody looks who has beaten."""
