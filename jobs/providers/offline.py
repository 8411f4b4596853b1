"""The provider for a first try: no network, no key, and a text that says so."""

import math
import zlib
from collections import Counter

import orjson

from jobs.providers.base import ChatAnswer, ChatRequest, EmbeddingAnswer, EmbeddingRequest, OnText

_TEXT = (
    "[offline] No model was called: Pressroom has no model endpoint configured. "
    "Set LLM_BASE_URL and LLM_API_KEY (see README) to get real answers. Your prompt was: {prompt}"
)
_ECHO_CHARS = 500
_DIMENSIONS = 256
_GRAMS = (2, 3)  # characters


class OfflineProvider:
    """Answers at once, with a text that names itself."""

    name = "offline"

    async def chat(self, request: ChatRequest, on_text: OnText | None = None) -> ChatAnswer:
        """The offline text with the last message repeated, shortened to 500 characters; or the example."""
        prompt = str(request.messages[-1].get("content", "")) if request.messages else ""
        text = _TEXT.format(prompt=prompt if len(prompt) <= _ECHO_CHARS else prompt[:_ECHO_CHARS] + "…")
        if request.example is not None:
            text = orjson.dumps(request.example).decode()
        if on_text:
            on_text(text)
        return ChatAnswer(text=text, model=self.name, finish_reason="stop", usage=_usage())

    async def embed(self, request: EmbeddingRequest) -> EmbeddingAnswer:
        """Vectors that are near each other for texts that share pieces; their model is called "offline"."""
        dimensions = request.dimensions or _DIMENSIONS
        return EmbeddingAnswer([_vector(text, dimensions) for text in request.texts], self.name, _usage())

    async def aclose(self) -> None:
        """Nothing to close."""


def _usage() -> dict[str, int]:
    return {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def _vector(text: str, dimensions: int) -> list[float]:
    """A unit vector that counts the pieces of a text, each at a place and with a sign that its hash gives it."""
    padded = f" {' '.join(text.casefold().split())} "
    pieces = Counter(padded[at : at + size] for size in _GRAMS for at in range(len(padded) - size + 1))
    vector = [0.0] * dimensions
    for piece, count in pieces.items():
        place = zlib.crc32(piece.encode())
        vector[(place >> 1) % dimensions] += count if place & 1 else -count
    length = math.sqrt(sum(number * number for number in vector))
    return [number / length for number in vector] if length else [1.0, *vector[1:]]
