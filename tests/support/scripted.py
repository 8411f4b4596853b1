"""A provider that says what it is told to."""

from typing import Any

from jobs.providers.base import ChatAnswer, ChatRequest, EmbeddingAnswer, EmbeddingRequest
from jobs.providers.offline import OfflineProvider


class Script:
    """Answers with its texts, in turn, and for `embed` with the offline provider's vectors; also its own catalog."""

    name = "script"

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)
        self.requests: list[ChatRequest] = []
        self.embedded: list[EmbeddingRequest] = []

    def provider_for(self, _model: str) -> "Script":
        return self

    async def chat(self, request: ChatRequest, _on_text: Any = None) -> ChatAnswer:
        self.requests.append(request)
        return ChatAnswer(self.texts.pop(0), "m", "stop", {"total_tokens": 10})

    async def embed(self, request: EmbeddingRequest) -> EmbeddingAnswer:
        self.embedded.append(request)
        answer = await OfflineProvider().embed(request)
        return EmbeddingAnswer(answer.vectors, request.model, {"total_tokens": 10})

    def asked(self) -> list[str]:
        """The last message of each request."""
        return [request.messages[-1]["content"] for request in self.requests]
