"""Structured answers: ask a model for JSON, check it, have it repaired once."""

from typing import Any

import orjson
from marshmallow import EXCLUDE, Schema, ValidationError

from jobs.errors import AttemptError, TaskError
from jobs.handlers.context import Context
from jobs.providers.base import ChatRequest

_FENCE = "```"
_OPTIONS = {"response_format": {"type": "json_object"}}
_PROBLEM_CHARS = 500


async def ask(context: Context, prompt: str, schema: Schema, example: dict[str, Any]) -> dict[str, Any]:
    """The model's answer to `prompt`, loaded by `schema`; the tokens of all calls are added up.

    Args:
        example: an answer of the right shape, for the offline provider to imitate.

    Raises:
        AttemptError: invalid_response, when the answer does not fit, nor does the repaired one.
    """
    messages = [{"role": "user", "content": prompt}]
    text = await _call(context, messages, example)
    try:
        return parse(text, schema)
    except ValidationError as error:
        problem = _said(error)
    messages += [
        {"role": "assistant", "content": text},
        {"role": "user", "content": context.prompts.render("repair", problem=problem)},
    ]
    try:
        return parse(await _call(context, messages, example), schema)
    except ValidationError as error:
        message = f"The model's answer does not fit, also after it was asked to repair it: {_said(error)}"
        raise AttemptError(TaskError("invalid_response", message)) from None


def parse(text: str, schema: Schema) -> dict[str, Any]:
    """A JSON object, possibly in a Markdown fence, loaded by `schema`; unknown keys are left out.

    Raises:
        ValidationError: says what does not fit.
    """
    text = text.strip()
    if text.startswith(_FENCE) and text.endswith(_FENCE):
        text = text.removeprefix(_FENCE).removesuffix(_FENCE).removeprefix("json").removeprefix("JSON")
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValidationError(f"it is not JSON ({error})") from None
    return dict(schema.load(document, unknown=EXCLUDE))


async def _call(context: Context, messages: list[dict[str, Any]], example: dict[str, Any]) -> str:
    answer, _ = await context.ask(ChatRequest(context.model or "", list(messages), _OPTIONS, example))
    return answer.text


def _said(error: ValidationError) -> str:
    return str(error.messages if isinstance(error.messages, dict) else "; ".join(map(str, error.messages)))[
        :_PROBLEM_CHARS
    ]
