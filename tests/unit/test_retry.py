"""The retry decision as a table."""

import pytest

from jobs.errors import DATABASE_AWAY, TaskError
from jobs.retry import PATIENT, Decision, RetryPolicy, Tries, decide

BUSY = TaskError("provider_error", "busy", retryable=True)
NOW = 1000.0
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
    assert decide(policy, BUSY, Tries(attempt, 10_000), NOW, chance=0.5) == Decision(delay)


@pytest.mark.parametrize(
    ("attempt", "max_retries", "again"), [(1, 0, False), (1, 1, True), (2, 1, False), (3, 3, True), (4, 3, False)]
)
def test_max_retries_counts_the_tries_after_the_first(attempt: int, max_retries: int, again: bool) -> None:
    assert (decide(EXPONENTIAL, BUSY, Tries(attempt, max_retries), NOW).delay is not None) == again


def test_what_is_not_retryable_fails_at_once() -> None:
    error = TaskError("provider_error", "no", retryable=False)
    assert decide(EXPONENTIAL, error, Tries(1, 3), NOW) == Decision(None)


def test_jitter_only_adds() -> None:
    policy = RetryPolicy("fixed", base_delay=8, jitter=True)
    assert decide(policy, BUSY, Tries(1, 3), NOW, chance=0.0).delay == 8
    assert decide(policy, BUSY, Tries(1, 3), NOW, chance=0.999).delay == pytest.approx(10, abs=0.01)


@pytest.mark.parametrize(("asked", "delay"), [(0.5, 1), (30, 30), (None, 1)])
def test_retry_after_is_a_floor(asked: float | None, delay: float) -> None:
    error = TaskError("provider_error", "restarting", retryable=True, status_code=500, retry_after=asked)
    assert decide(EXPONENTIAL, error, Tries(1, 3), NOW) == Decision(delay)


LIMITED = TaskError("rate_limited", "slow down", retryable=True, status_code=429, retry_after=2.0)
UNSAID = TaskError("rate_limited", "slow down", retryable=True, status_code=429)
AT_ONCE = TaskError("rate_limited", "slow down", retryable=True, status_code=429, retry_after=0.0)
OVERLOADED = TaskError("provider_error", "overloaded", retryable=True, status_code=503, retry_after=5.0)
DOWN = TaskError("provider_error", "down", retryable=True, status_code=503)


@pytest.mark.parametrize(
    ("error", "tries", "decision"),
    [
        (LIMITED, Tries(1, 0), Decision(2.0, free=True)),
        (LIMITED, Tries(9, 3), Decision(2.0, free=True)),
        (UNSAID, Tries(1, 0), Decision(1.0, free=True)),
        (AT_ONCE, Tries(1, 0), Decision(1.0, free=True)),
        (AT_ONCE, Tries(1, 0, limited_since=NOW - 50, patience=60), Decision(5.0, free=True)),
        (AT_ONCE, Tries(1, 0, limited_since=NOW - 900), Decision(60.0, free=True)),
        (OVERLOADED, Tries(1, 0), Decision(5.0, free=True)),
        (DATABASE_AWAY, Tries(1, 0), Decision(1.0, free=True)),
        (DOWN, Tries(1, 0), Decision(None)),
        (DOWN, Tries(1, 1), Decision(1.0)),
        (LIMITED, Tries(1, 3, limited_since=NOW - 59, patience=60), Decision(5.9, free=True)),
        (LIMITED, Tries(1, 3, limited_since=NOW - 60, patience=60), Decision(2.0)),
        (LIMITED, Tries(4, 3, limited_since=NOW - 60, patience=60), Decision(None)),
    ],
)
def test_waiting_out_a_busy_provider_or_the_database_is_free_for_a_while(
    error: TaskError, tries: Tries, decision: Decision
) -> None:
    assert decide(EXPONENTIAL, error, tries, NOW) == decision


@pytest.mark.parametrize("policy", [EXPONENTIAL, LINEAR, FIXED, CUSTOM, RetryPolicy()])
def test_policies_survive_json(policy: RetryPolicy) -> None:
    assert RetryPolicy.from_json(policy.as_json()) == policy


@pytest.mark.parametrize("error", [AT_ONCE, LIMITED, UNSAID])
def test_waiting_for_an_hour_is_no_hour_of_asking(error: TaskError) -> None:
    now, asked = NOW, 0
    while (decision := decide(EXPONENTIAL, error, Tries(1, 3, limited_since=NOW), now)).free:
        assert decision.delay is not None
        now += decision.delay
        asked += 1
    assert asked < 120


def test_a_patient_policy_does_not_put_off_what_the_provider_says_it_takes_soon() -> None:
    assert decide(PATIENT, LIMITED, Tries(1, 3), NOW).delay == 2
    assert decide(PATIENT, UNSAID, Tries(1, 3), NOW).delay == 60
