"""The retry decision as a table."""

import pytest

from jobs.errors import TaskError
from jobs.retry import RetryPolicy, retry_delay

BUSY = TaskError("provider_error", "busy", retryable=True)
EXPONENTIAL = RetryPolicy(jitter=False)
LINEAR = RetryPolicy("linear", base_delay=2, max_delay=5, jitter=False)
FIXED = RetryPolicy("fixed", base_delay=3, jitter=False)
CUSTOM = RetryPolicy("custom", delays=(1, 10, 100), jitter=False)


@pytest.mark.parametrize(
    ("policy", "attempt", "delay"),
    [
        (EXPONENTIAL, 1, 1),
        (EXPONENTIAL, 2, 2),
        (EXPONENTIAL, 3, 4),
        (EXPONENTIAL, 7, 60),
        (EXPONENTIAL, 5000, 60),
        (LINEAR, 1, 2),
        (LINEAR, 2, 4),
        (LINEAR, 3, 5),
        (FIXED, 1, 3),
        (FIXED, 9, 3),
        (CUSTOM, 1, 1),
        (CUSTOM, 3, 100),
        (CUSTOM, 4, 100),
    ],
)
def test_delays_follow_the_strategy(policy: RetryPolicy, attempt: int, delay: float) -> None:
    assert retry_delay(policy, BUSY, attempt, max_retries=10_000, chance=0.5) == delay


@pytest.mark.parametrize(
    ("attempt", "max_retries", "again"), [(1, 0, False), (1, 1, True), (2, 1, False), (3, 3, True), (4, 3, False)]
)
def test_max_retries_counts_the_tries_after_the_first(attempt: int, max_retries: int, again: bool) -> None:
    assert (retry_delay(EXPONENTIAL, BUSY, attempt, max_retries, 0.0) is not None) == again


def test_what_is_not_retryable_fails_at_once() -> None:
    assert retry_delay(EXPONENTIAL, TaskError("provider_error", "no", retryable=False), 1, 3, 0.0) is None


def test_jitter_only_adds() -> None:
    policy = RetryPolicy("fixed", base_delay=8, jitter=True)
    assert retry_delay(policy, BUSY, 1, 3, chance=0.0) == 8
    assert retry_delay(policy, BUSY, 1, 3, chance=0.999) == pytest.approx(10, abs=0.01)


@pytest.mark.parametrize(("asked", "delay"), [(0.5, 1), (30, 30), (None, 1)])
def test_retry_after_is_a_floor(asked: float | None, delay: float) -> None:
    error = TaskError("rate_limited", "slow down", retryable=True, retry_after=asked)
    assert retry_delay(EXPONENTIAL, error, 1, 3, 0.0) == delay


@pytest.mark.parametrize("policy", [EXPONENTIAL, LINEAR, FIXED, CUSTOM, RetryPolicy()])
def test_policies_survive_json(policy: RetryPolicy) -> None:
    assert RetryPolicy.from_json(policy.as_json()) == policy
