"""`embedding`: texts as vectors, kept in PostgreSQL to be searched by similarity."""

import asyncio
import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import orjson
from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from jobs.errors import PGVECTOR_MISSING, AttemptError
from jobs.fields import JsonObject, StrictInteger, Text, not_blank
from jobs.handlers.context import Context
from jobs.handlers.registry import task_type
from jobs.providers.base import EmbeddingAnswer, EmbeddingRequest

COLLECTION_CHARS: Final = 100
MAX_DIMENSIONS: Final = 16_000

_MAX_TEXTS: Final = 2048
# One call's: within what OpenAI takes (300,000 tokens), and small enough to be stored by one short statement.
_CALL_TEXTS: Final = 100
_CALL_CHARS: Final = 200_000
# A worker's connections are few, and its heart beats through them: at most one of them stores vectors.
_storing = asyncio.Semaphore(1)


class EmbeddingInput(Schema):
    """Input of `embedding`."""

    texts = fields.List(
        Text(validate=[validate.Length(1, 100_000), not_blank]), required=True, validate=validate.Length(1, _MAX_TEXTS)
    )
    collection = Text(
        load_default="default",
        validate=validate.Length(1, COLLECTION_CHARS),
        metadata={"description": "What is searched together."},
    )
    ids = fields.List(
        Text(validate=validate.Length(1, 255)),
        metadata={
            "description": "One for each text, else a hash of it; what has the same id is replaced.",
            "uniqueItems": True,
        },
    )
    metadata = fields.List(
        JsonObject(), metadata={"description": "One object for each text, given back when it is found."}
    )
    dimensions = StrictInteger(
        validate=validate.Range(1, MAX_DIMENSIONS),
        metadata={"description": "For models that let one choose; searches must then name it, too."},
    )

    @validates_schema(skip_on_field_errors=True)
    def _one_for_each_text(self, data: dict[str, Any], **_: Any) -> None:
        count = len(data["texts"])
        wrong = [name for name in ("ids", "metadata") if name in data and len(data[name]) != count]
        problems = {name: [f"Has {len(data[name])} entries for {count} texts."] for name in wrong}
        if len(set(data.get("ids", ()))) < len(data.get("ids", ())):
            problems["ids"] = ["Names a text twice."]
        if problems:
            raise ValidationError(problems)


class Item(NamedTuple):
    """A text to embed."""

    id: str
    text: str
    metadata: dict[str, Any]


@task_type(
    "embedding",
    input_schema=EmbeddingInput,
    timeout_seconds=600,
    max_retries=3,
    calls_model=True,
    embeds=True,
    retention_days=7,
)
async def embedding(context: Context) -> dict[str, Any]:
    """Embed and store texts; the result has `ids` in the order of the texts, `model`, `dimensions` and `count`.

    Each call's vectors are stored when they come, and not asked for by another attempt. To store them again changes
    nothing.
    """
    given = context.input
    (database,) = await context.rows("prepare_embeddings")
    if not database["ready"]:
        raise AttemptError(PGVECTOR_MISSING)
    texts = given["texts"]
    ids = given.get("ids") or [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    items = {
        item.id: item
        for item in map(Item._make, zip(ids, texts, given.get("metadata") or [{}] * len(texts), strict=True))
    }
    mine = {"task_id": context.task_id, "collection": given["collection"], "ids": list(items)}
    earlier = await context.rows("embedded_by", mine) if context.facts.fence > 1 else []
    space = {"model": earlier[0]["model"], "dimensions": earlier[0]["dimensions"]} if earlier else {}
    done = {row["external_id"] for row in earlier}
    stored = len(done)
    for batch in _batches(item for item in items.values() if item.id not in done):
        context.progress(100 * stored / len(items), f"{stored} of {len(items)} texts")
        request = EmbeddingRequest(context.model or "", [item.text for item in batch], given.get("dimensions"))
        answer = await context.embed(request)
        space = {"model": answer.model, "dimensions": len(answer.vectors[0])}
        await _store(context, {**space, "collection": given["collection"]}, batch, answer)
        stored += len(batch)
    return {"collection": given["collection"], **space, "count": stored, "ids": ids}


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """What to embed by one call each."""
    batch: list[Item] = []
    room = _CALL_CHARS
    for item in items:
        if batch and (len(batch) == _CALL_TEXTS or len(item.text) > room):
            yield batch
            batch, room = [], _CALL_CHARS
        batch.append(item)
        room -= len(item.text)
    if batch:
        yield batch


async def _store(context: Context, space: dict[str, Any], batch: list[Item], answer: EmbeddingAnswer) -> None:
    facts = {
        **space,
        "task_id": context.task_id,
        "ids": [item.id for item in batch],
        "texts": [item.text for item in batch],
        "metadata": [orjson.dumps(item.metadata).decode() for item in batch],
        "vectors": [orjson.dumps(vector).decode() for vector in answer.vectors],
    }
    async with _storing:
        await context.rows("index_embeddings", {"dimensions": space["dimensions"]})
        await context.rows("store_embeddings", facts)
