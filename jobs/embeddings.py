"""Searching what was embedded, from threads."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import orjson

from jobs.errors import PGVECTOR_MISSING, AttemptError, TaskError
from jobs.providers import catalog
from jobs.providers.base import EmbeddingAnswer, EmbeddingRequest
from jobs.settings import Settings
from jobs.store.database import Database, Row
from jobs.store.vectors import nearest

EMBED_SECONDS: Final = 10.0
"""How long a search waits for its query's vector."""

EMBED_AT_ONCE: Final = 4
"""Searches of one process that may wait for the model: each keeps a thread from other requests meanwhile."""

_BUSY: Final = TaskError(
    "searches_busy", "Too many searches wait for the model already.", retryable=True, retry_after=1
)


class Embeddings:
    """What is stored by tasks of the type `embedding`.

    All methods raise `AttemptError` with the code pgvector_missing where vectors cannot be stored.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._places = threading.BoundedSemaphore(EMBED_AT_ONCE)

    def search(
        self, text: str, *, collection: str, model: str | None, dimensions: int | None, limit: int
    ) -> tuple[list[Row], dict[str, Any]]:
        """The texts of a collection nearest to `text`, nearest first, and the `model` and `dimensions` searched.

        Args:
            model: whose vectors to search; EMBEDDING_MODEL's when None.
            dimensions: as the tasks that made them had it.

        Raises:
            AttemptError: as the provider says; timeout after `EMBED_SECONDS`; searches_busy when `EMBED_AT_ONCE`
                others wait for the model.
        """
        self._check()
        request = EmbeddingRequest(model or self._settings.embedding_model, [text], dimensions)
        with self._place():
            answer = asyncio.run(_embed(self._settings, request))
        (vector,) = answer.vectors
        space = {"model": answer.model, "dimensions": len(vector)}
        with self._database.transaction() as session:
            rows = nearest(session, {**space, "collection": collection}, orjson.dumps(vector).decode(), limit)
        return rows, space

    def any_of(self, collection: str) -> Row | None:
        """`model` and `dimensions` of one of a collection's vectors, if it has any."""
        return self._database.one("any_embedding", {"collection": collection})

    def remove(self, collection: str) -> int:
        """Remove a collection; returns how many texts it had."""
        self._check()
        return int(self._database.all("remove_embeddings", {"collection": collection})[0]["removed"])

    def _check(self) -> None:
        if not self._database.all("prepare_embeddings")[0]["ready"]:
            raise AttemptError(PGVECTOR_MISSING)

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise AttemptError(_BUSY)
        try:
            yield
        finally:
            self._places.release()


async def _embed(settings: Settings, request: EmbeddingRequest) -> EmbeddingAnswer:
    """One call, with connections of its own: searches are few, and threads have no event loop to keep any on."""
    providers = catalog.build(settings)
    try:
        async with asyncio.timeout(EMBED_SECONDS):
            return await providers.provider_for(request.model).embed(request)
    except TimeoutError:
        raise AttemptError(TaskError("timeout", f"The model did not answer within {EMBED_SECONDS:g} s.")) from None
    finally:
        await providers.aclose()
