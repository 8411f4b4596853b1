"""How often one caller may ask, counted in Redis for all web processes together.

A sliding window of two numbers a caller: it costs the same whatever the limit, and lets no double burst through where
one minute ends and the next begins. Of what is left, a process lets a hundredth through before it tells Redis of it:
who is far from the limit costs little, who is near is counted at once. While Redis is away, each process counts for
itself.
"""

import ipaddress
import math
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final, NamedTuple, NoReturn

import limits
import structlog
from flask import Flask, Request, Response
from limits import RateLimitItem
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from api.at_hand import the_notes, the_request
from api.auth import presents_key, session_token
from api.errors import abort
from jobs.queues import RedisError, connect
from jobs.settings import Settings

log = structlog.get_logger(__name__)

EXEMPT: Final = frozenset({"health.liveness", "health.readiness", "metrics.metrics"})
_LOGIN: Final = "login.enter"
_GENERATE: Final = "daily_life.make_day"
_REDIS_SECONDS: Final = 0.1  # no answer within this time: it is away,
_AWAY_SECONDS: Final = 5.0  # and is left alone for this long
_FAILURES: Final = limits.parse("30/minute")
_PART: Final = 100  # of what is left, a process lets so small a part through by itself,
_PART_SECONDS: Final = 1.0  # for so long at most
_MOST_PARTS: Final = 10_000


class Count(NamedTuple):
    """Where a caller stands with one limit after a request."""

    name: str
    limit: RateLimitItem
    is_within: bool
    left: int
    seconds: int  # until there is more

    @property
    def field(self) -> str:
        """For the header RateLimit."""
        return f'"{self.name}";r={self.left};t={self.seconds}'

    @property
    def policy(self) -> str:
        """For the header RateLimit-Policy."""
        return f'"{self.name}";q={self.limit.amount};w={self.limit.get_expiry()}'


@dataclass(slots=True)
class _Part:
    """How a caller stood when Redis was asked, until when that may be used, and what was let through since."""

    count: Count
    until: float
    untold: int = 0


class _Storage(RedisStorage):
    """The library's; its scripts that count a request and say where the caller then stands take one round trip."""

    _BOTH: Final = (
        b"local function count() %b end local function look(ARGV) %b end return {count(), look({ARGV[2]})}"
        % (
            RedisStorage.SCRIPT_ACQUIRE_SLIDING_WINDOW,
            RedisStorage.SCRIPT_SLIDING_WINDOW,
        )
    )

    def initialize_storage(self, uri: str) -> None:
        """Have counting bring what is then asked for, in the same thread."""
        super().initialize_storage(uri)
        both, seen = self.get_connection().register_script(self._BOTH), threading.local()

        def acquire(keys: list[str], args: list[int]) -> Any:
            is_within, seen.window = both(keys, args)
            return is_within

        self.lua_acquire_sliding_window = acquire  # type: ignore[assignment]
        self.lua_sliding_window = lambda _keys, _args: seen.window  # type: ignore[assignment]


class Counter:
    """Counts requests."""

    def __init__(self, redis_url: str) -> None:
        pool = connect(redis_url, timeout=_REDIS_SECONDS).connection_pool
        storage = _Storage("redis://", connection_pool=pool, key_prefix="pressroom:limits")
        self._shared = SlidingWindowCounterRateLimiter(storage)
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._away_until = 0.0
        self._noting = threading.Lock()
        self._parts: dict[tuple[str, str], _Part] = {}

    def hit(self, name: str, limit: RateLimitItem, who: str) -> Count:
        """Count one request; one that is beyond the limit does not count."""
        now, key, untold = time.monotonic(), (name, who), 0
        with self._noting:
            if part := self._parts.get(key):
                if part.untold < part.count.left // _PART and now < part.until:
                    part.untold += 1
                    return part.count._replace(left=part.count.left - part.untold)
                untold, part.untold = part.untold, 0
        count = self._ask(name, limit, who, untold + 1)
        with self._noting:
            if len(self._parts) >= _MOST_PARTS:
                self._parts = {key: part for key, part in self._parts.items() if now < part.until}
            before = self._parts.get(key)
            self._parts[key] = _Part(count, now + _PART_SECONDS, before.untold if before else 0)
        return count

    def _ask(self, name: str, limit: RateLimitItem, who: str, requests: int) -> Count:
        if time.monotonic() >= self._away_until:
            try:
                return self._hit(self._shared, name, limit, who, requests)
            except RedisError as error:
                self._leave_alone(error)
        return self._hit(self._own, name, limit, who, requests)

    def _hit(
        self, counter: SlidingWindowCounterRateLimiter, name: str, limit: RateLimitItem, who: str, requests: int
    ) -> Count:
        is_within = counter.hit(limit, name, who, cost=requests)
        stats = counter.get_window_stats(limit, name, who)
        seconds = math.ceil(stats.reset_time - time.time())
        return Count(name, limit, is_within, max(0, stats.remaining), max(0, seconds))

    def _leave_alone(self, error: Exception) -> None:
        with self._noting:
            if time.monotonic() < self._away_until:
                return
            self._away_until = time.monotonic() + _AWAY_SECONDS
        log.warning("redis unavailable; each process counts requests for itself", reason=str(error))


def limit_failures(app: Flask, counter: Counter) -> None:
    """Refuse addresses that failed to authenticate too often; to be called before `auth.register`."""
    refused: dict[str, float] = {}  # address -> until when

    @app.before_request
    def refuse() -> None:
        if not refused:
            return
        request = the_request()
        seconds = refused.get(_address(request), 0.0) - time.monotonic()
        if seconds > 0 and not _is_exempt(request):
            _abort("Too many failed attempts to authenticate.", math.ceil(seconds))

    @app.after_request
    def count(response: Response) -> Response:
        # Whoever presents nothing guesses nothing; pages of other sites could make a browser ask so, and shut it out.
        if response.status_code == HTTPStatus.UNAUTHORIZED and _presents_something(request := the_request()):
            address = _address(request)
            count = counter.hit("failures", _FAILURES, address)
            if not count.left:
                now = time.monotonic()
                for over in [other for other, until in list(refused.items()) if until < now]:
                    refused.pop(over, None)
                refused[address] = now + count.seconds
        return response


def limit_callers(app: Flask, counter: Counter, settings: Settings) -> None:
    """Limit the requests of those that were let in; to be called after `auth.register`."""
    usual = _named("default", settings.rate_limit_default)
    generating = usual + _named("generate", settings.rate_limit_generate)

    @app.before_request
    def check() -> None:
        request, notes = the_request(), the_notes()
        if _is_exempt(request):
            return
        who = _address(request) if notes.caller == "anonymous" else f"key {notes.caller}"
        counts: list[Count] = []
        notes.counts = counts
        for name, limit in generating if request.endpoint == _GENERATE else usual:
            count = counter.hit(name, limit, who)
            counts.append(count)
            if not count.is_within:
                _abort(f"Too many requests: no more than {limit} are allowed.", count.seconds)

    @app.after_request
    def tell(response: Response) -> Response:
        if counts := the_notes().get("counts"):
            response.headers.add("RateLimit-Policy", ", ".join(count.policy for count in counts))
            response.headers.add("RateLimit", ", ".join(count.field for count in counts))
        return response


def _named(name: str, setting: str) -> list[tuple[str, RateLimitItem]]:
    """The limits of a setting, each with a name of its own."""
    parsed = limits.parse_many(setting) if setting else []
    return [(f"{name}-{number}" if number else name, limit) for number, limit in enumerate(parsed)]


def _is_exempt(request: Request) -> bool:
    return request.endpoint in EXEMPT or (request.endpoint or "").endswith("static")


def _presents_something(request: Request) -> bool:
    return presents_key() or bool(session_token()) or request.endpoint == _LOGIN


def _address(request: Request) -> str:
    """The client's; of IPv6 the network, in which one client has all addresses."""
    return _client(request.remote_addr or "unknown")


@lru_cache(4096)
def _client(given: str) -> str:
    try:
        address = ipaddress.ip_address(given)
    except ValueError:
        return given
    return given if address.version == 4 else str(ipaddress.ip_network((address, 64), strict=False))


def _abort(message: str, seconds: int) -> NoReturn:
    abort(429, message=message, headers={"Retry-After": str(max(1, seconds))})
