"""What stands in Redis is data: nothing there is run."""

import asyncio
import json
import pickle
from typing import Any

import fakeredis
import pytest
from rq.exceptions import DeserializationError
from rq.job import Job

from jobs import entry
from jobs.queues import AsyncDoorbell, Doorbell, Group, RedisError, Taken, TaskJob, TaskQueue, connect_async, parse_ids


def store(connection: fakeredis.FakeRedis, data: bytes, **more: str) -> TaskJob:
    connection.hset("rq:job:7", mapping={"data": data, "created_at": "2026-01-01T00:00:00.000000Z", **more})
    job = TaskJob.fetch("7", connection=connection)
    assert isinstance(job, TaskJob)
    return job


def test_a_job_that_names_other_code_is_refused() -> None:
    connection = fakeredis.FakeRedis()
    job = store(connection, json.dumps(["os.system", None, ["true"], {}]).encode())
    with pytest.raises(ValueError, match="refused"):
        job.perform()


def test_pickled_jobs_are_not_even_read() -> None:
    connection = fakeredis.FakeRedis()
    job = store(connection, pickle.dumps(("os.system", None, ("true",), {})))
    with pytest.raises(DeserializationError):
        job.perform()


def test_callbacks_and_webhooks_in_a_job_are_dropped() -> None:
    connection = fakeredis.FakeRedis()
    data = json.dumps(["jobs.entry.perform", None, [7], {}]).encode()
    hooks = json.dumps([{"url": "http://example.com", "on": ["finished"]}])
    job = store(connection, data, failure_callback_name="os.abort", success_callback_name="os.abort", webhooks=hooks)
    assert job.failure_callback is None
    assert job.success_callback is None
    assert job.stopped_callback is None
    assert job.webhooks == []


def test_our_entry_point_only_says_that_rq_is_the_wrong_worker() -> None:
    with pytest.raises(RuntimeError, match=r"jobs\.worker"):
        entry.perform(7)


def test_queues_make_our_jobs_whatever_serializer_is_asked_for() -> None:
    queue = TaskQueue("low", connection=fakeredis.FakeRedis(), serializer="pickle")
    assert queue.job_class is TaskJob
    assert queue.serializer.loads(b"[1]") == [1]
    assert issubclass(TaskJob, Job)


def test_foreign_entries_on_a_queue_are_dropped() -> None:
    assert parse_ids([b"12", b"x", b"", b"-1", b"99999999999999999999", b"1.5", b"\xff", b"3"]) == [12, 3]


def test_only_the_entries_of_the_schedules_asked_for_are_read() -> None:
    connection = fakeredis.FakeRedis()
    connection.zadd("rq:scheduler:scheduled_jobs", {"schedule-12": 5.0, "schedule-13": 6.0, "12": 7.0})
    assert Doorbell(connection).carried_schedules([11, 12]) == {12: 5.0}
    assert Doorbell(connection).carried_schedules([]) == {}


def test_names_of_pools_are_read_whatever_they_are() -> None:
    doorbell = AsyncDoorbell("redis://127.0.0.1:1/0")

    async def answer(**_: object) -> list[object]:
        return [b"", [b"coroutine:\xff"], [[b"low", b"coroutine:\xff", [b"7"]]]]

    doorbell._take = answer  # type: ignore[assignment]
    assert asyncio.run(doorbell.take({})) == Taken([Group("low", "coroutine:\ufffd", [7])], None, ["coroutine:\ufffd"])


def test_a_command_whose_answer_does_not_come_is_not_sent_again() -> None:
    async def ask() -> list[bytes]:
        heard: list[bytes] = []

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while sent := await reader.read(4096):
                heard.append(sent)
                if b"TAKE" not in sent:  # but to the greeting
                    writer.write(b"+OK\r\n" * sent.count(b"*"))
            writer.close()

        async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
            client: Any = connect_async(
                f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0?protocol=2", timeout=0.2
            )
            with pytest.raises(RedisError):
                await client.execute_command("TAKE")
            await client.aclose()
        return [sent for sent in heard if b"TAKE" in sent]

    assert len(asyncio.run(ask())) == 1
