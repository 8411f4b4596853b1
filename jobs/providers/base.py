"""What every provider offers."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

OnText = Callable[[str], None]
"""Called with each piece of text as it is generated."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One chat completion to ask for.

    Attributes:
        messages: `{"role", "content"}` in order, as the OpenAI API has them.
        options: further fields of the request body (temperature, max_tokens, response_format...).
        example: an answer of the right shape where JSON is asked for; endpoints never see it.
    """

    model: str
    messages: list[dict[str, Any]]
    options: dict[str, Any]
    example: dict[str, Any] | None = None

    def with_model(self, model: str) -> "ChatRequest":
        """The same for another model."""
        return self if model == self.model else replace(self, model=model)


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """What a model answered.

    Attributes:
        model: the model that answered, as the provider names it.
        finish_reason: why it stopped: "stop", "length"...
        usage: tokens: `prompt_tokens`, `completion_tokens`, `total_tokens`; None when not told.
    """

    text: str
    model: str
    finish_reason: str | None
    usage: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """Texts to turn into vectors.

    Attributes:
        dimensions: how long the vectors should be; None: as the model has them.
    """

    model: str
    texts: list[str]
    dimensions: int | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingAnswer:
    """The vectors of texts.

    Attributes:
        vectors: in the order of the texts, all of the same length.
        model: whose they are; only vectors of the same model can be compared.
        usage: tokens, as in `ChatAnswer`.
    """

    vectors: list[list[float]]
    model: str
    usage: dict[str, Any] | None


class Provider(Protocol):
    """A model endpoint."""

    name: str

    async def chat(self, request: ChatRequest, on_text: OnText | None = None) -> ChatAnswer:
        """Ask for one completion; with `on_text`, streamed.

        Raises:
            AttemptError: whatever went wrong, as a `TaskError`.
        """

    async def embed(self, request: EmbeddingRequest) -> EmbeddingAnswer:
        """The vectors of texts; raises like `chat`."""

    async def aclose(self) -> None:
        """Close its connections."""
