"""Models' answers that were paid for are there for the next attempt, however the last one ended."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from flask.testing import FlaskClient

from jobs.answers import Answered, Keeper, Kept
from jobs.attempt import Claim
from jobs.providers.base import ChatAnswer, ChatRequest
from jobs.settings import Settings
from jobs.store.database import AsyncDatabase, Database
from tests.support import hand

REQUEST = ChatRequest("m", [{"role": "user", "content": "p"}], {})


@pytest.fixture
def claim(client: FlaskClient, database: Database) -> Claim:
    """A task at work."""
    task = client.post("/api/v1/tasks", json={"prompt": "p", "model": "m"}).get_json()["id"]
    return Claim.from_row(hand.claim(database, hand.register(database), [task])[0])


def run(configured: Settings, act: Callable[[Keeper], Coroutine[Any, Any, Any]]) -> Any:
    async def body() -> Any:
        async with AsyncDatabase(configured.database_url, max_size=1).opened() as database:
            return await act(Keeper(database))

    return asyncio.run(body())


async def answered() -> tuple[ChatAnswer, str, str]:
    return ChatAnswer("paid for", "m-2026", "stop", {"total_tokens": 7}), "somewhere", "m"


async def asked_again() -> tuple[ChatAnswer, str, str]:
    raise AssertionError("the model was asked again")


def again(configured: Settings, claim: Claim) -> Answered:
    """What the next attempt gets."""
    found: Answered = run(
        configured, lambda keeper: Kept(keeper, claim.id, claim.fence + 1).answer(REQUEST, asked_again)
    )
    return found


def test_an_answer_is_stored_before_it_is_used(configured: Settings, claim: Claim) -> None:
    run(configured, lambda keeper: Kept(keeper, claim.id, claim.fence).answer(REQUEST, answered))
    found = again(configured, claim)
    assert (found.answer, found.provider, found.model) == (*asyncio.run(answered()),)
    assert (found.is_new, found.is_counted) == (False, False)


def test_an_answer_after_a_failure_is_found_by_an_attempt_that_does_not_fail_first(
    configured: Settings, claim: Claim
) -> None:
    async def at_the_second_try(keeper: Keeper) -> None:
        kept = Kept(keeper, claim.id, claim.fence)
        with pytest.raises(AssertionError):
            await kept.answer(REQUEST, asked_again)
        await kept.answer(REQUEST, answered)

    run(configured, at_the_second_try)
    assert again(configured, claim).answer.text == "paid for"


def test_an_answer_that_came_as_its_attempt_was_cancelled_is_kept(configured: Settings, claim: Claim) -> None:
    async def cancelled(keeper: Keeper) -> None:
        using = asyncio.create_task(Kept(keeper, claim.id, claim.fence).answer(REQUEST, answered))
        await asyncio.sleep(0)
        using.cancel()
        await keeper.drain()

    run(configured, cancelled)
    assert not again(configured, claim).is_counted


@pytest.mark.parametrize("status", ["PENDING", "RETRYING"])
def test_an_answer_that_came_after_its_attempts_end_is_kept(
    status: str, configured: Settings, claim: Claim, database: Database
) -> None:
    hand.record(database, (claim.id, claim.fence, status))
    run(configured, lambda keeper: Kept(keeper, claim.id, claim.fence).answer(REQUEST, answered))
    assert again(configured, claim).is_counted, "its tokens were recorded with the outcome"


def test_an_attempt_that_lost_its_task_keeps_nothing(configured: Settings, claim: Claim, database: Database) -> None:
    run(configured, lambda keeper: Kept(keeper, claim.id, claim.fence - 1).answer(REQUEST, answered))
    assert database.all("kept_answers", {"id": claim.id}) == []
