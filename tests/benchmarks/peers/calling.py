"""The request every peer sends to the model's endpoint, as Pressroom does."""

import json

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Say something long."}]}).encode()
HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer none"}


def text_of(answer: bytes) -> str:
    """What the model said."""
    return str(json.loads(answer)["choices"][0]["message"]["content"])
