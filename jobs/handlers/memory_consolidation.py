"""`memory_consolidation`: what a conversation adds to what is known of a topic, kept as the topic's memory."""

from typing import Any

from marshmallow import Schema, fields, validate

from jobs import structured
from jobs.conversations import Conversation, transcript
from jobs.errors import AttemptError, TaskError
from jobs.fields import Text, not_blank
from jobs.handlers.context import Context
from jobs.handlers.registry import task_type
from jobs.retry import PATIENT
from jobs.splitting import PART_CHARS, split

_TOPIC_CHARS = 500


class MemoryInput(Schema):
    """Input of `memory_consolidation`."""

    topic = Text(
        required=True,
        validate=[validate.Length(1, _TOPIC_CHARS), not_blank],
        metadata={"description": "What is remembered: one memory is kept for each topic."},
    )
    conversation_history = Conversation()


class Memory(Schema):
    """What the model is asked for."""

    summary = Text(required=True, validate=validate.Length(1))
    facts = fields.List(Text(validate=validate.Length(1)), load_default=list)


_OFFLINE = {
    "summary": "[offline] No model was called: set LLM_BASE_URL to consolidate real memories.",
    "facts": ["[offline] No model was called."],
}


@task_type(
    "memory_consolidation",
    input_schema=MemoryInput,
    timeout_seconds=600,
    max_retries=3,
    retry=PATIENT,
    calls_model=True,
)
async def memory_consolidation(context: Context) -> dict[str, Any]:
    """Write the topic's memory anew: what was known, and what the conversation adds; `summary` and `facts`."""
    topic = context.input["topic"]
    if len(topic) > _TOPIC_CHARS:  # a template may have become longer than what was checked
        raise AttemptError(TaskError("invalid_input", f"The topic has more than {_TOPIC_CHARS} characters."))
    rows = await context.rows("known_of_topic", {"topic": topic})
    known = rows[0] if rows else None
    version = known["version"] if known else 0
    parts = split(transcript(context.input["conversation_history"]), PART_CHARS)
    for number, part in enumerate(parts):
        context.progress(100 * number / len(parts), f"part {number + 1} of {len(parts)}")
        prompt = context.prompts.render("memory_consolidation", topic=topic, known=known, material=part)
        known = await structured.ask(context, prompt, Memory(), _OFFLINE)
    return {"topic": topic, **(known or {}), "known_version": version}
