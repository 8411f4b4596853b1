"""Only the documented moves are possible."""

import itertools

import pytest

from jobs.lifecycle import TERMINAL, TRANSITIONS, Status, allowed, sources

ALLOWED = {
    ("BLOCKED", "PENDING"),
    ("BLOCKED", "FAILED"),
    ("BLOCKED", "CANCELLED"),
    ("PENDING", "PROCESSING"),
    ("PENDING", "CANCELLED"),
    ("PROCESSING", "COMPLETED"),
    ("PROCESSING", "FAILED"),
    ("PROCESSING", "RETRYING"),
    ("PROCESSING", "CANCELLED"),
    ("PROCESSING", "PENDING"),
    ("RETRYING", "PROCESSING"),
    ("RETRYING", "CANCELLED"),
    ("FAILED", "PENDING"),
    ("CANCELLED", "PENDING"),
    ("FAILED", "BLOCKED"),
    ("CANCELLED", "BLOCKED"),
}


@pytest.mark.parametrize(("source", "target"), list(itertools.product(Status, Status)))
def test_only_the_documented_moves_are_allowed(source: Status, target: Status) -> None:
    assert allowed(source, target) == ((source.value, target.value) in ALLOWED)


def test_every_state_is_in_the_table_and_final_ones_end_by_themselves() -> None:
    assert set(TRANSITIONS) == set(Status)
    assert {status for status in Status if TRANSITIONS[status] <= {Status.PENDING, Status.BLOCKED}} == TERMINAL


def test_sources_are_the_guard_of_an_update() -> None:
    assert sources(Status.CANCELLED) == ["BLOCKED", "PENDING", "PROCESSING", "RETRYING"]
    assert sources(Status.PENDING, TERMINAL) == ["CANCELLED", "FAILED"]
