"""Tokens of several calls, and of several models."""

from jobs.usage import added, tokens_of


def test_the_first_call_is_kept_as_it_was_told() -> None:
    told = {"total_tokens": 7, "details": {"cached_tokens": 2}}
    assert added(None, told, "m", "m") == told


def test_calls_of_one_model_are_summed_up() -> None:
    total = added({"total_tokens": 7, "cost": 0.5, "odd": {}}, {"total_tokens": 3, "cost": 0.5, "odd": 1}, "m", "m")
    assert total == {"total_tokens": 10, "cost": 0.5, "odd": {}}


def test_where_another_model_answers_each_has_its_share() -> None:
    first = added({"total_tokens": 7}, {"total_tokens": 3}, "other", "m")
    assert first == {"total_tokens": 10, "by_model": {"m": {"total_tokens": 7}, "other": {"total_tokens": 3}}}
    second = added(first, {"total_tokens": 1}, "m", "m")
    assert second == {"total_tokens": 11, "by_model": {"m": {"total_tokens": 8}, "other": {"total_tokens": 3}}}
    alone = added(None, {"total_tokens": 3, "by_model": "said by the provider"}, "other", "m")
    assert alone == {"total_tokens": 3, "by_model": {"other": {"total_tokens": 3}}}


def test_what_is_no_number_of_tokens_counts_as_none() -> None:
    assert [tokens_of(told) for told in (None, {}, {"total_tokens": "7"}, {"total_tokens": 7})] == [0, 0, 0, 7]
