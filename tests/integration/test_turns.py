"""Who is next: owners take turns, models keep their limits, and workers share both through Redis."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import pytest
import redis

from jobs.pools import Pools
from jobs.queues import AsyncDoorbell, Doorbell, connect
from tests.support.waiting import wait_until

ROOM = {"high": 1000, "default": 1000, "low": 1000}


class Bench:
    """A doorbell with both sides: tasks are announced, and taken by workers by name."""

    def __init__(self, url: str) -> None:
        self.doorbell = Doorbell(connect(url))
        self.redis = redis.Redis.from_url(url, decode_responses=True)
        self._url = url
        self._last = 0

    def announce(self, count: int, owner: str = "", queue: str = "default", pool: str = "coroutine") -> list[int]:
        ids = list(range(self._last + 1, self._last + 1 + count))
        self._last += count
        self.doorbell.announce(self.row(task_id, owner, queue, pool) for task_id in ids)
        return ids

    def row(
        self, task_id: int, owner: str = "", queue: str = "default", pool: str = "coroutine", status: str = "PENDING"
    ) -> dict[str, Any]:
        return {"id": task_id, "owner": owner, "queue": queue, "pool": pool, "status": status}

    def _run(self, act: Callable[[AsyncDoorbell], Coroutine[Any, Any, Any]]) -> Any:
        async def body() -> Any:
            side = AsyncDoorbell(self._url)
            try:
                return await act(side)
            finally:
                await side.aclose()

        return asyncio.run(body())

    def take(
        self,
        room: int | Mapping[str, int] = 1000,
        *,
        lane: str = "coroutine",
        worker: str = "w",
        first: Sequence[tuple[str, int]] = (),
        **news: Any,
    ) -> list[int]:
        rooms = dict.fromkeys(ROOM, room) if isinstance(room, int) else room
        wish = {
            "worker": worker,
            "lanes": {lane: list(rooms.items())},
            "first": {lane: first},
            "flight": {},
            "ended": {},
            "rules": {},
            **news,
        }
        self.redis.hset(f"rq:worker:{worker}", "birth", "now")
        self.taken = self._run(lambda side: side.take(wish))
        return [task_id for group in self.taken.groups for task_id in group.ids]

    def refused(self, pool: str, in_flight: int, wait: float | None = 0.0, worker: str = "w") -> float:
        return float(self._run(lambda side: side.refused(pool, worker, in_flight, wait)))


@pytest.fixture
def bench(redis_url: str) -> Bench:
    return Bench(redis_url)


class TestTurns:
    def test_tasks_of_one_owner_come_in_their_order(self, bench: Bench) -> None:
        ids = bench.announce(30)
        assert bench.take(10) + bench.take(20) == ids

    def test_owners_alternate_however_much_one_of_them_has(self, bench: Bench) -> None:
        many, few = bench.announce(1000, "a"), bench.announce(10, "b")
        taken = bench.take(20)
        assert [task_id for task_id in taken if task_id in few] == few
        assert bench.take(1000) == many[10:]

    def test_who_comes_later_does_not_make_up_for_the_past(self, bench: Bench) -> None:
        bench.announce(100, "a")
        bench.take(90)
        bench.announce(50, "b")
        assert [task_id > 100 for task_id in bench.take(10)].count(True) == 5

    def test_the_owners_of_different_models_take_turns_too(self, bench: Bench) -> None:
        bench.announce(100, "a", pool="coroutine:m")
        bench.announce(5, "b", pool="coroutine:n")
        assert len([task_id for task_id in bench.take(8) if task_id > 100]) >= 4

    def test_what_returns_goes_first(self, bench: Bench) -> None:
        bench.announce(5)
        first = bench.take(1)
        bench.doorbell.announce([bench.row(first[0], status="RETRYING")])
        assert bench.take(2) == [first[0], 2]

    def test_an_id_that_waits_already_does_not_wait_twice(self, bench: Bench) -> None:
        ids = bench.announce(3)
        bench.doorbell.announce(bench.row(task_id) for task_id in ids)
        assert bench.take() == ids

    def test_rqs_list_shows_what_waits(self, bench: Bench) -> None:
        bench.announce(50, "a")
        bench.announce(5, "b")
        taken = set(bench.take(20))
        assert bench.redis.lrange("rq:queue:default", 0, -1) == [str(n) for n in range(1, 56) if n not in taken]

    def test_what_overtook_many_leaves_rqs_list_when_it_gets_to_the_front(self, bench: Bench) -> None:
        bench.announce(1500, "a")
        late = bench.announce(1, "b")
        assert late[0] in bench.take(2)
        bench.redis.delete(f"rq:job:{late[0]}")  # as when it has ended
        bench.take(1490)
        bench.take(20)
        assert bench.redis.llen("rq:queue:default") == 0

    def test_owners_of_long_ago_are_forgotten(self, bench: Bench) -> None:
        for number in range(4000):
            bench.doorbell.announce([bench.row(number + 1, f"account:{number}")])
            if number % 100 == 99:
                bench.take()
        waiting = bench.announce(50, "last") + bench.announce(1, "other")
        assert bench.redis.hlen("pressroom:turns:default") < 1200
        assert waiting[-1] in bench.take(2), "turns that are still to come are kept"

    def test_nothing_is_left_when_all_is_taken(self, bench: Bench) -> None:
        bench.announce(20, "a")
        bench.announce(20, "b", "low")
        bench.take()
        assert bench.take() == []
        keys = {key for key in bench.redis.scan_iter() if bench.redis.ttl(key) == -1}
        assert keys <= {"rq:queues", "rq:worker:w"}


class TestRoom:
    def test_very_many_models_do_not_hide_the_other_lanes(self, bench: Bench) -> None:
        bench.doorbell.announce(bench.row(number, pool=f"coroutine:m{number}") for number in range(1, 501))
        bench.doorbell.announce([bench.row(9999, pool="thread")])
        assert bench.take(lane="thread") == [9999]
        taken: list[int] = []

        def found_all() -> bool:
            taken.extend(bench.take())
            return len(taken) == 500

        wait_until(found_all, "all are found")

    def test_urgent_queues_go_first(self, bench: Bench) -> None:
        low, high = bench.announce(5, queue="low"), bench.announce(5, queue="high")
        assert bench.take(7) == [*high, *low[:2]]

    def test_less_urgent_tasks_leave_room(self, bench: Bench) -> None:
        low, default = bench.announce(50, queue="low"), bench.announce(50)
        assert bench.take({"high": 10, "default": 9, "low": 7}) == default[:9]
        bench.take({"high": 41, "default": 41, "low": 0})
        assert bench.take({"high": 10, "default": 9, "low": 7}) == low[:7]

    def test_a_starved_queue_gets_its_share_before_all_others(self, bench: Bench) -> None:
        low, high = bench.announce(50, queue="low"), bench.announce(50, queue="high")
        assert bench.take(10, first=[("low", 2)]) == [*low[:2], *high[:8]]

    def test_starved_queues_take_no_more_than_there_is_room_for_together(self, bench: Bench) -> None:
        low, default = bench.announce(5, queue="low"), bench.announce(5)
        assert bench.take(1, first=[("low", 1), ("default", 1)]) == low[:1]
        assert bench.take(3, first=[("default", 2), ("low", 2)]) == [*default[:2], low[1]]
        assert bench.take({"high": 2, "default": 1, "low": 1}, first=[("low", 2), ("default", 2)]) == [low[2]]

    def test_a_lane_takes_only_its_own(self, bench: Bench) -> None:
        slow, call = bench.announce(3, pool="process"), bench.announce(3, pool="coroutine:m")
        assert bench.take(lane="process") == slow
        assert bench.take(lane="coroutine") == call

    def test_a_bell_rings_for_each_lane_and_again_for_what_is_left(self, bench: Bench) -> None:
        bench.announce(3, pool="process")
        assert bench.redis.lpop("pressroom:bell:default:process")
        assert not bench.redis.exists("pressroom:bell:default:coroutine")
        bench.take(1, lane="process")
        assert bench.redis.llen("pressroom:bell:default:process") == 1


POOL = "coroutine:m"


class TestLimits:
    def test_calls_in_flight_are_limited_over_all_workers(self, bench: Bench) -> None:
        bench.announce(20, pool=POOL)
        rules = {POOL: {"max_in_flight": 5}}
        assert len(bench.take(worker="a", rules=rules)) == 5
        assert bench.take(worker="b", rules=rules) == []
        assert bench.taken.again
        assert len(bench.take(worker="a", rules=rules, flight={POOL: 3})) == 2

    def test_calls_of_a_dead_worker_do_not_count_for_long(self, bench: Bench) -> None:
        bench.announce(20, pool=POOL)
        rules = {POOL: {"max_in_flight": 5}}
        bench.take(worker="a", rules=rules)
        bench.redis.delete("rq:worker:a")
        bench.redis.hset(f"pressroom:limit:{POOL}", "swept", 0)  # as some seconds later
        assert len(bench.take(worker="b", rules=rules)) == 5

    def test_calls_of_a_worker_that_signed_off_do_not_count_while_it_is_still_shown(self, bench: Bench) -> None:
        bench.announce(20, pool=POOL)
        rules = {POOL: {"max_in_flight": 5}}
        bench.take(worker="a", rules=rules)
        bench.redis.hset("rq:worker:a", "death", "now")
        bench.redis.hset(f"pressroom:limit:{POOL}", "swept", 0)  # as some seconds later
        assert len(bench.take(worker="b", rules=rules)) == 5

    def test_what_was_taken_but_could_not_be_claimed_does_not_count_for_long(self, bench: Bench) -> None:
        bench.announce(20, pool=POOL)
        rules = {POOL: {"max_in_flight": 5}}
        pools = Pools(rules)
        assert len(bench.take(worker="a", **pools.report())) == 5
        pools.known(bench.taken.pools)
        bench.take({"high": 0, "default": 0, "low": 0}, worker="a", **pools.report())
        assert len(bench.take(worker="b", rules=rules)) == 5

    def test_calls_in_flight_when_redis_was_emptied_narrow_nothing(self, bench: Bench) -> None:
        bench.announce(500, pool=POOL)
        assert bench.take(flight={POOL: 60}) == []
        wait_until(lambda: bench.take(flight={POOL: 60}), "the window opens further")

    def test_a_clock_that_jumps_back_stops_nothing(self, bench: Bench) -> None:
        bench.announce(100, pool=POOL)
        rules = {POOL: {"requests_per_minute": 60}}
        ahead: dict[Any, Any] = {"requests": 3, "requests_at": 9e9, "swept": 9e9}
        bench.redis.hset(f"pressroom:limit:{POOL}", mapping=ahead)
        assert len(bench.take(rules=rules)) == 3

    def test_other_models_flow_on(self, bench: Bench) -> None:
        bench.announce(20, pool=POOL)
        others = bench.announce(20, pool="coroutine:n")
        bench.refused(POOL, 3, wait=60)
        assert bench.take() == others[:16]

    def test_requests_a_minute(self, bench: Bench) -> None:
        bench.announce(100, pool=POOL)
        rules = {POOL: {"requests_per_minute": 60}}
        assert len(bench.take(rules=rules)) == 5, "a twelfth at once"
        assert bench.take(rules=rules, flight={POOL: 0}) == []
        assert 0 < bench.taken.again <= 1.2

    def test_tokens_a_minute(self, bench: Bench) -> None:
        bench.announce(100, pool=POOL)
        rules = {POOL: {"tokens_per_minute": 12_000}}
        first = len(bench.take(1, rules=rules))
        assert first == 1
        ended = {POOL: {"tasks": 1, "calls": 1, "answers": 1, "tokens": 1500}}
        assert bench.take(rules=rules, flight={POOL: 0}, ended=ended) == []
        assert bench.taken.again > 1

    def test_an_endpoint_that_refuses_is_left_alone_by_everybody(self, bench: Bench) -> None:
        bench.announce(20, pool=POOL)
        bench.take(8, worker="a")
        assert bench.refused(POOL, 7, wait=30, worker="a") == 30
        assert bench.take(worker="b") == []
        assert 0 < bench.taken.again <= 30

    def test_no_more_than_was_not_refused_when_it_may_be_asked_again(self, bench: Bench) -> None:
        bench.announce(50, pool=POOL)
        assert len(bench.take(worker="a")) == 16, "carefully at first"
        for others in (7, 6, 5):
            bench.refused(POOL, others, wait=0, worker="a")
        assert len(bench.take(worker="a", flight={POOL: 5})) == 0
        assert len(bench.take(worker="a", flight={POOL: 3})) == 2

    def test_more_and_more_while_nothing_is_refused(self, bench: Bench) -> None:
        bench.announce(500, pool=POOL)
        in_flight = 0

        def more() -> bool:
            nonlocal in_flight
            in_flight += len(bench.take(flight={POOL: in_flight}))
            return in_flight == 500

        wait_until(more, "the window is wide open")

    def test_pauses_that_are_not_said_grow(self, bench: Bench) -> None:
        assert [bench.refused(POOL, 1, wait=None) for _ in range(4)] == [1, 2, 4, 8]

    def test_only_an_answer_ends_their_growth(self, bench: Bench) -> None:
        failed = {"tasks": 1, "calls": 1, "answers": 0, "tokens": 0}
        for _ in range(3):
            bench.refused(POOL, 1, wait=None)
        bench.take(ended={POOL: failed})
        assert bench.refused(POOL, 1, wait=None) == 8
        bench.take(ended={POOL: {**failed, "answers": 1}})
        assert bench.refused(POOL, 1, wait=None) == 1

    def test_tokens_of_calls_that_other_models_tasks_made_are_counted(self, bench: Bench) -> None:
        bench.announce(100, pool=POOL)
        rules = {POOL: {"tokens_per_minute": 12_000}}
        as_fallback = {"tasks": 0, "calls": 1, "answers": 1, "tokens": 1500}
        assert bench.take(rules=rules, ended={POOL: as_fallback}) == []
        assert bench.taken.again > 1

    @pytest.mark.parametrize(("wait", "others", "pause"), [(0, 7, 20), (1, 7, 30), (20, 7, 60), (2, 1, 5)])
    def test_more_is_tried_after_a_pause_that_its_cost_sets(
        self, wait: float, others: int, pause: float, bench: Bench
    ) -> None:
        for left in range(7, others - 1, -1):
            bench.refused(POOL, left, wait=wait)
        assert float(bench.redis.hget(f"pressroom:limit:{POOL}", "pause") or 0) == pause

    def test_a_refusal_of_the_only_call_narrows_nothing(self, bench: Bench) -> None:
        bench.announce(20, pool=POOL)
        bench.refused(POOL, 0, wait=0)
        assert len(bench.take()) == 16
