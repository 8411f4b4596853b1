"""What models cost. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

_PER = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """Of a million tokens that go into a model, and that come out of it."""

    input: float
    output: float


@dataclass(frozen=True, slots=True)
class Prices:
    """A price list, in one currency (three letters)."""

    currency: str = "USD"
    by_model: Mapping[str, Price] = field(default_factory=dict)

    def money(self, model: str, prompt_tokens: int, completion_tokens: int) -> float | None:
        """What these tokens cost; None when the model has no price."""
        price = self.by_model.get(model)
        if price is None:
            return None
        return (prompt_tokens * price.input + completion_tokens * price.output) / _PER
