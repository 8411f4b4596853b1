"""When to try again: a pure function of policy, error and attempt."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from jobs.errors import TaskError

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


DEFAULT_POLICY: Final = RetryPolicy()


def retry_delay(policy: RetryPolicy, error: TaskError, attempt: int, max_retries: int, chance: float) -> float | None:
    """Seconds until the next try, or None when the task has failed for good.

    Args:
        attempt: the number of the attempt that failed, from 1.
        max_retries: tries after the first: 3 means at most 4 attempts.
        chance: a random number in [0, 1), passed in so that the rule stays pure.
    """
    if not error.retryable or attempt > max_retries:
        return None
    delay = policy.delay(attempt)
    if policy.jitter:
        delay += delay * JITTER_SHARE * chance
    return max(delay, error.retry_after or 0.0)
