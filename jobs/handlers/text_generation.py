"""`text_generation`: one chat completion for a prompt."""

from typing import Any

from marshmallow import Schema, fields, validate

from jobs.fields import JsonObject, SparseSchema, StrictInteger, Text
from jobs.handlers.context import Context
from jobs.handlers.registry import task_type
from jobs.providers.base import ChatRequest


class Message(Schema):
    """One earlier message of the conversation."""

    role = fields.String(required=True, validate=validate.OneOf(["system", "user", "assistant"]))
    content = Text(required=True)


class TextGenerationInput(SparseSchema):
    """Optional input of `text_generation`."""

    system_prompt = Text(metadata={"description": "Put before everything else, with the role `system`."})
    messages = fields.List(
        fields.Nested(Message), metadata={"description": "Earlier messages; the prompt follows them."}
    )
    temperature = fields.Float(validate=validate.Range(0, 2))
    max_tokens = StrictInteger(validate=validate.Range(min=1))
    response_format = JsonObject(
        metadata={"description": "As in the OpenAI API, for JSON output with or without a schema."}
    )


@task_type("text_generation", input_schema=TextGenerationInput, needs_prompt=True, calls_model=True)
async def text_generation(context: Context) -> dict[str, Any]:
    """Ask the task's model once; the result has `text`, `model`, `provider` and `finish_reason`."""
    options = dict(context.input)
    messages = [*options.pop("messages", [])]
    if system_prompt := options.pop("system_prompt", None):
        messages.insert(0, {"role": "system", "content": system_prompt})
    messages.append({"role": "user", "content": context.prompt})
    answer, provider = await context.ask(ChatRequest(context.model or "", messages, options), keep=False)
    return {
        "text": answer.text,
        "model": answer.model or context.model,
        "provider": provider,
        "finish_reason": answer.finish_reason,
    }
