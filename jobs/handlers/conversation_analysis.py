"""`conversation_analysis`: what was said, decided and left open, in a form that programs can use."""

from typing import Any

from marshmallow import Schema, fields, validate

from jobs.conversations import Conversation, transcript
from jobs.fields import Text
from jobs.handlers.analysis import AnalysisInput, Kind, analyse
from jobs.handlers.context import Context
from jobs.handlers.registry import task_type
from jobs.retry import PATIENT

_SOME = Text(validate=validate.Length(1))


class ConversationInput(AnalysisInput):
    """Input of `conversation_analysis`."""

    conversation = Conversation()


class Sentiment(Schema):
    """How the conversation feels."""

    overall = fields.String(required=True, validate=validate.OneOf(["positive", "neutral", "negative", "mixed"]))
    reason = Text(load_default="")


class Participant(Schema):
    """Somebody who took part."""

    name = Text(required=True, validate=validate.Length(1))
    contribution = Text(load_default="")


class Decision(Schema):
    """What was decided."""

    decision = Text(required=True, validate=validate.Length(1))
    by = Text(load_default=None, allow_none=True)


class ActionItem(Schema):
    """What somebody is to do."""

    action = Text(required=True, validate=validate.Length(1))
    owner = Text(load_default=None, allow_none=True)
    due = Text(load_default=None, allow_none=True)


class Findings(Schema):
    """What the model is asked for."""

    summary = Text(required=True, validate=validate.Length(1))
    language = Text(required=True, validate=validate.Length(1))
    topics = fields.List(_SOME, required=True)
    sentiment = fields.Nested(Sentiment, required=True, unknown="exclude")
    participants = fields.List(fields.Nested(Participant, unknown="exclude"), required=True)
    decisions = fields.List(fields.Nested(Decision, unknown="exclude"), required=True)
    open_questions = fields.List(_SOME, required=True)
    action_items = fields.List(fields.Nested(ActionItem, unknown="exclude"), required=True)


_KIND = Kind(
    "conversation_analysis",
    Findings,
    {
        "summary": "[offline] No model was called: set LLM_BASE_URL to analyse real conversations.",
        "language": "und",
        "topics": [],
        "sentiment": {"overall": "neutral", "reason": "No model was called."},
        "participants": [],
        "decisions": [],
        "open_questions": [],
        "action_items": [],
    },
)


@task_type(
    "conversation_analysis",
    input_schema=ConversationInput,
    timeout_seconds=1800,
    max_retries=3,
    retry=PATIENT,
    calls_model=True,
    retention_days=90,
)
async def conversation_analysis(context: Context) -> dict[str, Any]:
    """Analyse a conversation: `topics`, `sentiment`, `decisions`, `open_questions`, `action_items`..."""
    return await analyse(context, _KIND, transcript(context.input["conversation"]))
