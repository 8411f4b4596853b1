"""`content_generation`: one article for an account, kept as a content that people review."""

from typing import Any

from marshmallow import Schema, fields, validate

from jobs import structured
from jobs.fields import StrictBoolean, StrictInteger, Text
from jobs.handlers.context import Context
from jobs.handlers.registry import task_type
from jobs.retry import PATIENT

_SHORT = validate.Length(1, 500)


class ContentInput(Schema):
    """Input of `content_generation`."""

    account_id = StrictInteger(required=True, validate=validate.Range(1))
    topic = Text(allow_none=True, validate=_SHORT)
    keywords = fields.List(Text(validate=_SHORT), allow_none=True, validate=validate.Length(max=50))
    requirements = Text(allow_none=True, validate=validate.Length(max=10_000))
    tone = Text(allow_none=True, validate=_SHORT)
    category = Text(allow_none=True, validate=_SHORT)
    auto_approve = StrictBoolean(metadata={"description": "Approved at once; else it waits for review."})
    rejected_because = Text(validate=validate.Length(max=10_000))


class Article(Schema):
    """What the model is asked for."""

    title = Text(required=True, validate=validate.Length(1, 1000))
    body = Text(required=True, validate=validate.Length(1))
    summary = Text(load_default="")


_OFFLINE = {
    "title": "[offline] No model was called",
    "body": "No model was called: set LLM_BASE_URL and LLM_API_KEY to get real articles.",
    "summary": "Written by the offline provider.",
}


@task_type(
    "content_generation",
    input_schema=ContentInput,
    timeout_seconds=300,
    max_retries=3,
    retry=PATIENT,
    calls_model=True,
)
async def content_generation(context: Context) -> dict[str, Any]:
    """Ask for an article; the result has `title`, `body` and `summary`."""
    account = await context.account(context.input["account_id"])
    asked = {name: context.input.get(name) for name in ContentInput().fields}
    asked["category"] = asked["category"] or account["profile"].get("default_category")
    prompt = context.prompts.render("content_generation", account=account, **asked)
    article = await structured.ask(context, prompt, Article(), _OFFLINE)
    return {**article, "category": asked["category"], "topic": asked["topic"]}
