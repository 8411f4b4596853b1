"""The provider for a first try: no network, no key, and a text that says so."""

import orjson

from jobs.providers.base import ChatAnswer, ChatRequest, OnText

_TEXT = (
    "[offline] No model was called: Pressroom has no model endpoint configured. "
    "Set LLM_BASE_URL and LLM_API_KEY (see README) to get real answers. Your prompt was: {prompt}"
)
_ECHO_CHARS = 500


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
        usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        return ChatAnswer(text=text, model="offline", finish_reason="stop", usage=usage)

    async def aclose(self) -> None:
        """Nothing to close."""
