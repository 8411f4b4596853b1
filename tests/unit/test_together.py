"""Calls that come while an earlier one is at work are done in one go, and each gets what is its own."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs.together import Together
from tests.support.waiting import wait_until


class SharedError(Exception):
    """What fails for all."""


class Work:
    """Doubles numbers; the first go waits until it is let on."""

    def __init__(self, *, most: int = 100) -> None:
        self.goes: list[list[int]] = []
        self.is_at_work, self.may_go_on = threading.Event(), threading.Event()
        self.together = Together(self._do, most=most, shared=SharedError)

    def _do(self, numbers: Sequence[int]) -> list[int]:
        self.goes.append(list(numbers))
        if len(self.goes) == 1:
            self.is_at_work.set()
            assert self.may_go_on.wait(10)
        if -1 in numbers:
            raise SharedError
        if 0 in numbers:
            raise ZeroDivisionError
        return [2 * number for number in numbers]

    def ask(self, first: int, others: Sequence[int]) -> list[int | BaseException | None]:
        """What each gets when the others come while the first is at work."""
        with ThreadPoolExecutor(1 + len(others)) as pool:
            futures = [pool.submit(self.together, first)]
            assert self.is_at_work.wait(10)
            for count, number in enumerate(others, 1):
                futures.append(pool.submit(self.together, number))
                wait_until(lambda count=count: len(self.together._waiting) == count, "it waits")  # type: ignore[misc]
            self.may_go_on.set()
            return [future.exception() or future.result() for future in futures]


def test_a_lone_call_is_done_at_once_in_its_own_thread() -> None:
    seen: list[int] = []

    def do(items: Sequence[int]) -> Sequence[int]:
        seen.append(threading.get_ident())
        return items

    together = Together(do, most=9, shared=SharedError)
    assert [together(5), together(6)] == [5, 6]
    assert seen == [threading.get_ident()] * 2


def test_those_that_come_meanwhile_are_done_in_one_go_in_order() -> None:
    work = Work()
    assert work.ask(1, [2, 3, 4]) == [2, 4, 6, 8]
    assert work.goes == [[1], [2, 3, 4]]


def test_no_more_than_so_many_at_once() -> None:
    work = Work(most=2)
    assert work.ask(1, [2, 3, 4]) == [2, 4, 6, 8]
    assert work.goes == [[1], [2, 3], [4]]


def test_an_error_stays_with_the_call_that_it_belongs_to() -> None:
    work = Work()
    first, good, bad, also_good = work.ask(1, [2, 0, 4])
    assert (first, good, also_good) == (2, 4, 8)
    assert isinstance(bad, ZeroDivisionError)


def test_a_shared_error_is_everybodys_and_nothing_is_tried_again() -> None:
    work = Work()
    first, *others = work.ask(1, [2, -1, 4])
    assert first == 2
    assert [type(error) for error in others] == [SharedError] * 3
    assert len({id(error) for error in others}) == 3, "each thread has its own to add its traceback to"
    assert work.goes == [[1], [2, -1, 4]]


def test_after_an_error_others_are_served() -> None:
    work = Work()
    work.may_go_on.set()
    with pytest.raises(SharedError):
        work.together(-1)
    assert work.together(3) == 6
