"""When to try again: a pure function of policy, error and attempt."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from jobs.errors import DATABASE_AWAY, TaskError

_LEAST_WAIT: Final = 1.0
_WAIT_SHARE: Final = 0.1  # of the time waited so far
_LONGEST_WAIT: Final = 60.0

Strategy = Literal["exponential", "linear", "fixed", "custom"]

JITTER_SHARE: Final = 0.25
"""Jitter adds up to this part of the delay; it never takes away."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait before each further try. Delays are seconds.

    exponential: base, 2*base, 4*base...; linear: base, 2*base, 3*base...; fixed: base each time;
    custom: `delays` in turn, the last one repeated. All but custom are capped at `max_delay`.
    """

    strategy: Strategy = "exponential"
    base_delay: float = 1.0
    max_delay: float = 60.0
    jitter: bool = True
    delays: tuple[float, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "RetryPolicy":
        """Read what `as_json` wrote; absent keys take their defaults."""
        known = dict(data)
        return cls(**{**known, "delays": tuple(known.get("delays") or ())})

    def as_json(self) -> dict[str, Any]:
        """The shape of `retry` in the API."""
        shown: dict[str, Any] = {
            "strategy": self.strategy,
            "base_delay": self.base_delay,
            "max_delay": self.max_delay,
            "jitter": self.jitter,
        }
        if self.delays:
            shown["delays"] = list(self.delays)
        return shown

    def delay(self, attempt: int) -> float:
        """Seconds to wait after failed attempt number `attempt` (from 1), before jitter."""
        if self.strategy == "custom":
            return self.delays[min(attempt, len(self.delays)) - 1]
        # Beyond 2**30 every sensible cap is reached; larger powers would only overflow.
        factor: float = {
            "exponential": 2 ** min(attempt - 1, 30),
            "linear": attempt,
            "fixed": 1,
        }[self.strategy]
        return min(self.base_delay * factor, self.max_delay)

    def pause(self, attempt: int, chance: float, at_least: float | None = None) -> float:
        """`delay` with jitter, and not below the `Retry-After` that was given, if any.

        Args:
            chance: a random number in [0, 1), passed in so that the rule stays pure.
        """
        delay = self.delay(attempt)
        if self.jitter:
            delay += delay * JITTER_SHARE * chance
        return max(delay, at_least or 0.0)


DEFAULT_POLICY: Final = RetryPolicy()

PATIENT: Final = RetryPolicy("exponential", base_delay=60.0, max_delay=600.0)
"""For work that nobody waits for at a screen."""


@dataclass(frozen=True, slots=True)
class Tries:
    """How often a task was tried.

    Attributes:
        attempt: the number of the attempt that failed, from 1.
        max_retries: tries after the first: 3 means at most 4 attempts.
        limited_since: when its provider first asked it to wait, if it still waits for that.
        patience: seconds from then on for which waiting costs no attempt.
    """

    attempt: int
    max_retries: int
    limited_since: float | None = None
    patience: float = 3600.0


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows a failed attempt.

    Attributes:
        delay: seconds until the next try; None: the task has failed for good.
        free: the attempt does not count.
    """

    delay: float | None
    free: bool = False


def decide(policy: RetryPolicy, error: TaskError, tries: Tries, now: float, chance: float = 0.0) -> Decision:
    """What to do after a failed attempt.

    Waiting out a provider that is busy, or our own database, is free, until the task has done so for too long; it is
    tried again ever more rarely. Otherwise only errors that can pass are tried again, as long as tries are left.
    `Retry-After` is a floor under the delay.

    Args:
        now: seconds, on the clock of `tries.limited_since`.
        chance: see `RetryPolicy.pause`.
    """
    waited = 0.0 if tries.limited_since is None else now - tries.limited_since
    if (error.means_busy or error == DATABASE_AWAY) and waited < tries.patience:
        return Decision(_free_delay(policy, error, waited), free=True)
    if not error.retryable or tries.attempt > tries.max_retries:
        return Decision(None)
    return Decision(policy.pause(tries.attempt, chance, error.retry_after))


def _free_delay(policy: RetryPolicy, error: TaskError, waited: float) -> float:
    """Seconds until something that is waited out is tried again.

    What the provider asked for is not made longer by the policy: who may call it then, the pool of its model decides
    (see limits.lua). But a provider that always says "at once" is not asked every second for an hour.
    """
    asked = policy.delay(1) if error.retry_after is None else error.retry_after
    return max(asked, _LEAST_WAIT, min(waited * _WAIT_SHARE, _LONGEST_WAIT))
