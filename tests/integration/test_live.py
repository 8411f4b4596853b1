"""What a worker tells of its tasks while they run."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
import redis

from jobs.live import MOVED, Live, live_channel, text_key
from jobs.queues import RedisError, connect_async
from jobs.settings import Settings
from jobs.store.database import AsyncDatabase

Story = Callable[[Live, Any], Awaitable[None]]

CLAIMED = {"id": 7, "status": "PROCESSING", "batch_id": None}
ENDED = {"id": 7, "status": "COMPLETED", "batch_id": 3}


def tell(configured: Settings, story: Story) -> list[tuple[str, Any]]:
    """What is told, channel and message, while the story happens."""

    async def run() -> list[tuple[str, Any]]:
        told = []
        client = connect_async(configured.redis_url)
        async with AsyncDatabase(configured.database_url, max_size=1).opened() as database, client.pubsub() as ears:
            await ears.subscribe(MOVED, live_channel(7))
            await story(Live(client, database), client)
            await client.publish(MOVED, b'"over"')
            while (message := await ears.get_message(timeout=10)) and message["data"] != b'"over"':
                if message["type"] == "message":
                    told.append((message["channel"].decode(), orjson.loads(message["data"])))
        await client.aclose()
        return told

    return asyncio.run(run())


def text(offset: int, piece: str, fence: int = 1) -> tuple[str, Any]:
    return live_channel(7), {"type": "text", "fence": fence, "offset": offset, "text": piece}


def test_text_is_told_in_pieces_and_kept_as_a_whole(configured: Settings, redis_client: "redis.Redis") -> None:
    async def story(live: Live, _client: Any) -> None:
        live.text(7, 1, "生")
        live.text(7, 1, "成 ")
        await live.flush()
        await live.flush()
        live.text(7, 1, "text")
        await live.flush()

    assert tell(configured, story) == [text(0, "生成 "), text(3, "text")]
    assert redis_client.get(text_key(7, 1)) == "生成 text"
    assert 0 < int(redis_client.ttl(text_key(7, 1))) <= 3600


def test_the_first_text_may_come_together_with_the_claim(configured: Settings) -> None:
    async def story(live: Live, _client: Any) -> None:
        live.moved([CLAIMED])
        live.text(7, 1, "at once ")
        await live.flush()
        live.text(7, 1, "and on")
        await live.flush()

    assert [message for _, message in tell(configured, story) if message.get("type") == "text"] == [
        text(0, "at once ")[1],
        text(8, "and on")[1],
    ]


def test_the_last_text_is_told_before_the_end_of_its_attempt(configured: Settings) -> None:
    async def story(live: Live, _client: Any) -> None:
        live.text(7, 1, "last")
        live.ended(7, 1)
        live.moved([ENDED])
        live.text(7, 2, "next attempt")
        live.ended(7, 1)
        await live.flush()

    ended = (MOVED, {"tasks": [7], "left": [7], "batches": [3]})
    assert tell(configured, story) == [text(0, "last"), text(0, "next attempt", fence=2), ended]


def test_text_that_redis_lost_is_stored_again_as_a_whole(configured: Settings, redis_client: "redis.Redis") -> None:
    async def story(live: Live, client: Any) -> None:
        live.text(7, 1, "before ")
        await live.flush()
        await client.flushdb()
        live.text(7, 1, "after")
        await live.flush()

    assert tell(configured, story) == [text(0, "before "), text(7, "after")]
    assert redis_client.get(text_key(7, 1)) == "before after"


def test_text_that_could_not_be_told_is_told_later(
    configured: Settings, redis_client: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(live: Live, client: Any) -> None:
        live.text(7, 1, "one ")
        await live.flush()
        live.text(7, 1, "two ")
        with monkeypatch.context() as patch:
            patch.setattr(client, "pipeline", lambda **_: (_ for _ in ()).throw(RedisError("away")))
            with pytest.raises(RedisError):
                await live.flush()
        live.text(7, 1, "three")
        live.ended(7, 1)
        live.moved([ENDED])
        await live.flush()
        await live.flush()

    assert tell(configured, story)[:-1] == [text(0, "one "), text(4, "two three")]
    assert redis_client.get(text_key(7, 1)) == "one two three"


def test_of_an_attempt_that_is_over_nothing_is_kept(configured: Settings) -> None:
    async def story(live: Live, _client: Any) -> None:
        live.text(7, 1, "of a task that another worker has by now")
        live.ended(7, 1)
        assert live.news.is_set()
        await live.flush()
        assert (live._texts, live._last_texts) == ({}, [])

    assert tell(configured, story) == [text(0, "of a task that another worker has by now")]


def test_half_a_surrogate_pair_does_not_stop_the_worker(configured: Settings) -> None:
    async def story(live: Live, _client: Any) -> None:
        live.text(7, 1, "a\ud83db")
        await live.flush()

    assert tell(configured, story) == [text(0, "a?b")]
