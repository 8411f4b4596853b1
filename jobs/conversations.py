"""Conversations as they are given, and as a model reads them."""

from collections.abc import Sequence
from typing import Any, Final

from marshmallow import Schema, ValidationError, fields, validate

from jobs.fields import NOT_BLANK, STORABLE, Text

MAX_CHARS: Final = 1_000_000
_MAX_MESSAGES: Final = 10_000
_ROLE_CHARS: Final = 200


class Said(Schema):
    """One message."""

    role = Text(required=True, validate=validate.Length(1, _ROLE_CHARS), metadata={"description": "Who said it."})
    content = Text(required=True)


class Conversation(fields.Field[str | list[dict[str, str]]]):
    """A list of messages, or one text."""

    def __init__(self) -> None:
        message = {
            "type": "object",
            "properties": {
                "role": {"type": "string", "minLength": 1, "maxLength": _ROLE_CHARS, "pattern": STORABLE},
                "content": {"type": "string", "pattern": STORABLE},
            },
            "required": ["role", "content"],
            "additionalProperties": False,
        }
        super().__init__(
            required=True,
            metadata={
                "description": "Messages in order, or one text.",
                "oneOf": [
                    {"type": "string", "pattern": NOT_BLANK},
                    {"type": "array", "items": message, "minItems": 1, "maxItems": _MAX_MESSAGES},
                ],
            },
        )
        self._text = Text(required=True)
        self._messages = fields.List(fields.Nested(Said), validate=validate.Length(1, _MAX_MESSAGES))

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(value, str | list):
            raise ValidationError("Neither a list of messages nor a text.")
        loaded: Any = self._text.deserialize(value) if isinstance(value, str) else self._messages.deserialize(value)
        length = len(transcript(loaded))
        if not length:
            raise ValidationError("May not be blank.")
        if length > MAX_CHARS:
            raise ValidationError(f"Longer than {MAX_CHARS} characters.")
        return loaded


def transcript(conversation: str | Sequence[dict[str, str]]) -> str:
    """A conversation as one text: a paragraph a message, `role: content`; those without content are left out."""
    if isinstance(conversation, str):
        return conversation.strip()
    said = [(message["role"], message["content"].strip()) for message in conversation]
    return "\n\n".join(f"{role}: {content}" for role, content in said if content)
