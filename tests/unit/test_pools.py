"""What a worker tells the others of its model calls."""

from jobs.pools import Calls, Pools, lane_of, pool_of


def test_a_pool_names_its_lane() -> None:
    assert pool_of("coroutine", "a:b") == "coroutine:a:b"
    assert lane_of("coroutine:a:b") == "coroutine"
    assert lane_of(pool_of("process", None)) == "process"


def test_calls_in_flight_are_counted_by_model() -> None:
    pools = Pools({})
    for number, pool in enumerate(("coroutine:m", "coroutine:m", "coroutine:n", "thread")):
        pools.started((number, 1), pool)
    assert pools.report() == {"flight": {"coroutine:m": 2, "coroutine:n": 1}, "ended": {}, "rules": {}}


def test_what_ended_is_told_once_with_its_cost() -> None:
    pools = Pools({"coroutine:m": {"max_in_flight": 5}})
    for number in range(3):
        pools.started((number, 1), "coroutine:m")
    pools.ended((0, 1), {"m": Calls(2, 2, 300), "fallback": Calls(1, 1, 40)})
    pools.ended((1, 1), {"m": Calls(1)})
    assert pools.has_news
    told = pools.report()
    assert told["ended"] == {
        "coroutine:m": {"tasks": 2, "calls": 3, "answers": 2, "tokens": 300},
        "coroutine:fallback": {"tasks": 0, "calls": 1, "answers": 1, "tokens": 40},
    }
    assert told["flight"] == {"coroutine:m": 1}
    assert told["rules"] == {"coroutine:m": {"max_in_flight": 5}}
    assert not pools.has_news
    assert pools.report()["ended"] == {}


def test_what_the_others_think_is_set_right() -> None:
    pools = Pools({})
    pools.known(["coroutine:m", "coroutine:n"])
    pools.started((1, 1), "coroutine:n")
    assert pools.report()["flight"] == {"coroutine:m": 0, "coroutine:n": 1}


def test_a_refused_call_is_in_flight_no_more() -> None:
    pools = Pools({})
    pools.started((1, 1), "coroutine:m")
    pools.started((2, 1), "coroutine:m")
    assert pools.refused((1, 1), "coroutine:m") == 1
    assert pools.refused((1, 1), "coroutine:fallback") == 0, "a call to another model narrows that one's window"
    pools.ended((1, 1), {"m": Calls(1)})
    told = pools.report()
    assert told["flight"] == {"coroutine:m": 1}
    assert told["ended"] == {"coroutine:m": {"tasks": 1, "calls": 1, "answers": 0, "tokens": 0}}
