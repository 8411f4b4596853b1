"""`document_analysis`: what a document is and says, in a form that programs can use."""

from typing import Any

from marshmallow import Schema, fields, validate

from jobs.fields import Text, not_blank
from jobs.handlers.analysis import AnalysisInput, Kind, analyse
from jobs.handlers.context import Context
from jobs.handlers.registry import task_type
from jobs.retry import PATIENT

_SOME = Text(validate=validate.Length(1))


class DocumentInput(AnalysisInput):
    """Input of `document_analysis`."""

    text = Text(required=True, validate=[validate.Length(1, 1_000_000), not_blank])
    title = Text(allow_none=True, validate=validate.Length(max=1000), metadata={"description": "If it is known."})


class Entity(Schema):
    """Somebody or something the document names."""

    name = Text(required=True, validate=validate.Length(1))
    kind = Text(load_default="")
    note = Text(load_default="")


class Document(Schema):
    """What the model is asked for."""

    title = Text(required=True)
    kind = Text(required=True, validate=validate.Length(1))
    language = Text(required=True, validate=validate.Length(1))
    summary = Text(required=True, validate=validate.Length(1))
    key_points = fields.List(_SOME, required=True)
    entities = fields.List(fields.Nested(Entity, unknown="exclude"), load_default=list)
    topics = fields.List(_SOME, required=True)


_KIND = Kind(
    "document_analysis",
    Document,
    {
        "title": "[offline] No model was called",
        "kind": "unknown",
        "language": "und",
        "summary": "No model was called: set LLM_BASE_URL to analyse real documents.",
        "key_points": [],
        "entities": [],
        "topics": [],
    },
)


@task_type(
    "document_analysis",
    input_schema=DocumentInput,
    timeout_seconds=1800,
    max_retries=3,
    retry=PATIENT,
    calls_model=True,
    retention_days=90,
)
async def document_analysis(context: Context) -> dict[str, Any]:
    """Analyse a document: `title`, `kind`, `language`, `summary`, `key_points`, `entities`, `topics`."""
    return await analyse(context, _KIND, context.input["text"], title=context.input.get("title"))
