"""Embeddings on the wire, and the offline provider's."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from jobs.errors import AttemptError, TaskError
from jobs.providers.base import EmbeddingAnswer, EmbeddingRequest
from jobs.providers.offline import OfflineProvider
from jobs.providers.openai import OpenAIProvider

Handle = Callable[[httpx.Request], httpx.Response]
REQUEST = EmbeddingRequest("embed-1", ["你好", "b"])
GOOD = {
    "data": [{"index": 1, "embedding": [0, 1]}, {"index": 0, "embedding": [0.5, 0.5]}],
    "model": "embed-1-2026",
    "usage": {"prompt_tokens": 4, "total_tokens": 4},
}


def embed(handle: Handle, request: EmbeddingRequest = REQUEST) -> EmbeddingAnswer:
    provider = OpenAIProvider("test", "http://model/v1/", "sk-0123456789", transport=httpx.MockTransport(handle))
    return asyncio.run(provider.embed(request))


def error_of(handle: Handle, request: EmbeddingRequest = REQUEST) -> TaskError:
    with pytest.raises(AttemptError) as caught:
        embed(handle, request)
    return caught.value.error


def answering(body: Any) -> Handle:
    return lambda _: httpx.Response(200, json=body)


@pytest.mark.parametrize(("dimensions", "more"), [(None, {}), (2, {"dimensions": 2})])
def test_the_request_is_what_the_openai_api_expects(dimensions: int | None, more: dict[str, int]) -> None:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=GOOD)

    embed(handle, EmbeddingRequest("embed-1", ["你好", "b"], dimensions))
    (request,) = seen
    assert str(request.url) == "http://model/v1/embeddings"
    assert request.headers["Authorization"] == "Bearer sk-0123456789"
    sent = httpx.Response(200, content=request.content).json()
    assert sent == {"model": "embed-1", "input": ["你好", "b"], **more}


def test_vectors_come_in_the_order_of_the_texts() -> None:
    answer = embed(answering(GOOD))
    assert answer == EmbeddingAnswer([[0.5, 0.5], [0.0, 1.0]], "embed-1", {"prompt_tokens": 4, "total_tokens": 4})


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        [{"embedding": [1.0]}],
        [{"embedding": [1.0]}, {"embedding": [1.0, 2.0]}],
        [{"embedding": []}, {"embedding": []}],
        [{"embedding": ["x"]}, {"embedding": [1.0]}],
        [{"embedding": None}, {"embedding": [1.0]}],
        [{}, {}],
        {"0": 1},
    ],
)
def test_whatever_is_not_one_vector_a_text_is_an_invalid_response(data: Any) -> None:
    error = error_of(answering({"data": data}))
    assert (error.code, error.retryable) == ("invalid_response", True)


def test_a_model_that_ignores_the_wanted_dimensions_fails_for_good() -> None:
    error = error_of(answering(GOOD), EmbeddingRequest("embed-1", ["a", "b"], 3))
    assert (error.code, error.retryable) == ("invalid_response", False)
    assert "2 dimensions, not of 3" in error.message


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [(400, "provider_error", False), (429, "rate_limited", True), (503, "provider_error", True)],
)
def test_failures_are_those_of_chat(status: int, code: str, retryable: bool) -> None:
    error = error_of(lambda _: httpx.Response(status, json={"error": {"message": "because"}}))
    assert (error.code, error.retryable, error.status_code) == (code, retryable, status)
    assert "because" in error.message


class TestOffline:
    def vectors(self, *texts: str, dimensions: int | None = None) -> list[list[float]]:
        return asyncio.run(OfflineProvider().embed(EmbeddingRequest("m", list(texts), dimensions))).vectors

    def test_equal_texts_are_equal_and_similar_ones_near(self) -> None:
        cat, same, near, far = self.vectors("The cat sleeps", "the  CAT sleeps", "The cats sleep", "Stock markets fell")
        assert cat == same

        def like(one: list[float], other: list[float]) -> float:
            return sum(a * b for a, b in zip(one, other, strict=True))

        assert like(cat, cat) == pytest.approx(1)
        assert like(cat, near) > 0.5 > like(cat, far)

    @pytest.mark.parametrize("text", ["a", "好", "!", "-" * 1000])
    def test_every_text_has_a_direction(self, text: str) -> None:
        for dimensions in (1, 2, 256):
            (vector,) = self.vectors(text, dimensions=dimensions)
            assert len(vector) == dimensions
            assert sum(number * number for number in vector) == pytest.approx(1)

    def test_its_vectors_are_never_taken_for_another_models(self) -> None:
        assert asyncio.run(OfflineProvider().embed(REQUEST)).model == "offline"
