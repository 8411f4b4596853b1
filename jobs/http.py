"""What all outgoing HTTP has in common."""

import email.utils
import math
import urllib.request
from typing import Final

import httpx

_MAX_RETRY_AFTER: Final = 86_400.0


def proxy_for(url: httpx.URL) -> httpx.Proxy | None:
    """The proxy that the environment names for this address (HTTPS_PROXY, NO_PROXY...), as usual."""
    proxy = urllib.request.getproxies().get(url.scheme)
    return httpx.Proxy(proxy) if proxy and not urllib.request.proxy_bypass(url.host) else None


def is_callable(url: str) -> bool:
    """Whether requests can be made to such a URL: its host may be one that is none."""
    try:
        httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return True


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait from a `Retry-After` header (RFC 9110, 10.2.3): a number or an HTTP date.

    Anything else is None; a day is the most that is believed.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - now
        except ValueError:
            return None
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER) if math.isfinite(seconds) else None
