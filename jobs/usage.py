"""Tokens, as providers count them: added up, and told apart by model where more than one answered. Pure."""

from collections.abc import Mapping
from typing import Any, Final

Usage = dict[str, Any]
"""`prompt_tokens`, `completion_tokens`, `total_tokens`...; `by_model` has the same for each model that answered, once
another one than the task's own did."""

_BY_MODEL: Final = "by_model"


def added(total: Mapping[str, Any] | None, more: Mapping[str, Any], model: str, own: str) -> Usage:
    """The total with what a call of `model` took, in a task whose own model is `own`."""
    before = {name: value for name, value in (total or {}).items() if name != _BY_MODEL}
    more = {name: value for name, value in more.items() if name != _BY_MODEL}
    shares = (total or {}).get(_BY_MODEL)
    if shares is None and model != own:
        shares = {own: before} if before else {}
    summed = _sum(before, more)
    if shares is None:
        return summed
    return {**summed, _BY_MODEL: {**shares, model: _sum(shares.get(model, {}), more)}}


def tokens_of(usage: Mapping[str, Any] | None) -> int:
    """All tokens of a call, as far as that is told."""
    told = (usage or {}).get("total_tokens", 0)
    return told if isinstance(told, int) else 0


def _sum(before: Mapping[str, Any], more: Mapping[str, Any]) -> Usage:
    if not before:
        return dict(more)
    sums = {
        name: before.get(name, 0) + amount
        for name, amount in more.items()
        if isinstance(amount, int) and isinstance(before.get(name, 0), int)
    }
    return {**before, **sums}
