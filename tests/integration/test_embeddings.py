"""Texts become vectors that are found again, where the database has pgvector, and say so where it has not."""

import asyncio
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient

import jobs.embeddings
from api import services
from jobs import backup
from jobs.errors import AttemptError, TaskError
from jobs.handlers import embedding
from jobs.providers.base import EmbeddingAnswer, EmbeddingRequest
from jobs.settings import Settings
from jobs.store import vectors
from jobs.store.database import Database
from jobs.store.migrate import migrate
from tests.support.model_server import Behaviour, ModelServer
from tests.support.performing import perform
from tests.support.scripted import Script
from tests.support.servers import Servers
from tests.support.waiting import wait_until

TEXTS = ["The cat sleeps on the sofa", "Stock markets fell on Monday", "股票市场周一下跌", "A cat slept on a sofa"]
Embed = Callable[..., dict[str, Any]]


class Offline(Script):
    """The vectors, and the model's name, that the web process has without an endpoint."""

    async def embed(self, request: EmbeddingRequest) -> EmbeddingAnswer:
        return replace(await super().embed(request), model="offline")


@pytest.fixture
def embed(client: FlaskClient, configured: Settings) -> Embed:
    """Submits and performs a task; returns its result."""

    def run(*texts: str, providers: Any = None, model: str | None = None, **given: Any) -> dict[str, Any]:
        task = {
            "task_type": "embedding",
            "input": {"texts": list(texts), **given},
            **({"model": model} if model else {}),
        }
        answer = client.post("/api/v1/tasks", json=task)
        assert answer.status_code == 201, answer.get_json()
        return perform(configured, answer.get_json(), providers or Offline())

    return run


def search(client: FlaskClient, **query: Any) -> list[dict[str, Any]]:
    answer = client.get("/api/v1/embeddings/search", query_string=query)
    assert answer.status_code == 200, answer.get_json()
    found: list[dict[str, Any]] = answer.get_json()
    return found


def stored(database: Database) -> list[tuple[Any, ...]]:
    with database.transaction() as session:
        rows = session.run(
            "SELECT collection, model, dimensions, external_id, text, metadata FROM embeddings ORDER BY 1, 4"
        )
    return [tuple(row.values()) for row in rows]


class TestStoring:
    def test_the_result_names_what_was_stored_and_holds_no_vectors(self, embed: Embed) -> None:
        result = embed(*TEXTS, ids=["a", "b", "c", "d"])
        assert result == {
            "collection": "default", "model": "offline", "dimensions": 256, "count": 4, "ids": ["a", "b", "c", "d"],
        }  # fmt: skip

    def test_many_texts_take_several_calls_in_the_order_given(
        self, embed: Embed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(embedding, "_CALL_TEXTS", 3)
        monkeypatch.setattr(embedding, "_CALL_CHARS", 10)
        script = Script()
        result = embed("1", "2", "3", "4", "x" * 9, "yy", "z" * 30, providers=script)
        calls = [request.texts for request in script.embedded]
        assert calls == [["1", "2", "3"], ["4", "x" * 9], ["yy"], ["z" * 30]]
        assert (result["count"], result["model"], len(set(result["ids"]))) == (7, "text-embedding-3-small", 7)

    def test_what_an_earlier_attempt_stored_is_not_asked_for_again(
        self, client: FlaskClient, configured: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(embedding, "_CALL_TEXTS", 2)
        answer = client.post("/api/v1/tasks", json={"task_type": "embedding", "input": {"texts": list("abcde")}})
        task = answer.get_json()

        class Breaking(Script):
            async def embed(self, request: EmbeddingRequest) -> EmbeddingAnswer:
                if len(self.embedded) == 2:
                    raise AttemptError(TaskError("provider_error", "no", retryable=True))
                return await super().embed(request)

        with pytest.raises(AttemptError):
            perform(configured, task, first := Breaking())
        result = perform(configured, task, second := Script(), fence=2)
        assert [request.texts for request in first.embedded] == [["a", "b"], ["c", "d"]]
        assert [request.texts for request in second.embedded] == [["e"]]
        assert (result["count"], result["model"], result["dimensions"]) == (5, "text-embedding-3-small", 256)
        assert perform(configured, task, Script(), fence=3) == result

    def test_equal_texts_are_embedded_once(self, embed: Embed, database: Database) -> None:
        script = Script()
        result = embed("same", "other", "same", providers=script)
        assert [request.texts for request in script.embedded] == [["same", "other"]]
        assert (result["count"], result["ids"][0]) == (2, result["ids"][2])
        assert len(stored(database)) == 2

    def test_to_store_again_changes_nothing_and_an_id_given_again_is_replaced(
        self, embed: Embed, database: Database
    ) -> None:
        for _ in range(2):
            embed("one", ids=["1"], metadata=[{"page": 1}], collection="books")
        assert stored(database) == [("books", "offline", 256, "1", "one", {"page": 1})]
        embed("uno", ids=["1"], collection="books")
        assert stored(database) == [("books", "offline", 256, "1", "uno", {})]

    def test_models_and_dimensions_live_side_by_side(self, embed: Embed, database: Database) -> None:
        embed("one", ids=["1"])
        embed("one", ids=["1"], dimensions=7)
        embed("one", ids=["1"], model="own", providers=Script())
        embed("one", ids=["1"], dimensions=5000)  # more than can be indexed
        spaces = {(row[1], row[2]) for row in stored(database)}
        assert spaces == {("offline", 256), ("offline", 7), ("own", 256), ("offline", 5000)}

    @pytest.mark.parametrize(
        ("given", "field"),
        [
            ({}, "texts"),
            ({"texts": []}, "texts"),
            ({"texts": ["x"] * 2049}, "texts"),
            ({"texts": [""]}, "texts"),
            ({"texts": [" "]}, "texts"),
            ({"texts": ["x"], "ids": ["a", "b"]}, "ids"),
            ({"texts": ["x", "y"], "ids": ["a", "a"]}, "ids"),
            ({"texts": ["x"], "metadata": []}, "metadata"),
            ({"texts": ["x"], "dimensions": 0}, "dimensions"),
            ({"texts": ["x"], "collection": ""}, "collection"),
        ],
    )
    def test_bad_input_is_named(self, given: dict[str, Any], field: str, client: FlaskClient) -> None:
        answer = client.post("/api/v1/tasks", json={"task_type": "embedding", "input": given})
        assert answer.status_code == 422
        assert list(answer.get_json()["errors"]["json"]["input"]) == [field]


class TestSearching:
    def test_the_nearest_come_first(self, embed: Embed, client: FlaskClient) -> None:
        embed(*TEXTS, metadata=[{"place": at} for at in range(4)], ids=list("abcd"))
        found = search(client, q="the cat sleeps on the sofa", limit=3)
        assert [hit["id"] for hit in found[:2]] == ["a", "d"]
        assert found[0]["score"] == pytest.approx(1)
        assert found[0]["score"] > found[1]["score"] > found[2]["score"]
        assert set(found[0]) == {"id", "text", "collection", "metadata", "score", "task_id"}
        assert (found[0]["text"], found[0]["metadata"], found[0]["collection"]) == (TEXTS[0], {"place": 0}, "default")
        assert search(client, q="周一股票市场", limit=1)[0]["id"] == "c"

    def test_only_the_same_collection_and_dimensions_are_searched(self, embed: Embed, client: FlaskClient) -> None:
        embed("cat", collection="pets")
        embed("car", collection="traffic")
        embed("cat", collection="pets", dimensions=8)
        assert [hit["text"] for hit in search(client, q="ca", collection="traffic")] == ["car"]
        assert len(search(client, q="ca", collection="pets", dimensions=8)) == 1
        assert search(client, q="ca", collection="nothing") == []

    def test_a_search_that_compares_what_cannot_be_compared_is_told(self, embed: Embed, client: FlaskClient) -> None:
        embed("cat", dimensions=8)
        answer = client.get("/api/v1/embeddings/search?q=cat")
        assert answer.status_code == 422
        (said,) = answer.get_json()["errors"]["query"]["dimensions"]
        assert said == "The collection has vectors of offline with 8 dimensions, none of offline with 256."

    def test_many_are_searched_through_the_index(
        self, embed: Embed, client: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        embed(*(f"text number {number}" for number in range(300)), collection="numbers")
        exactly = search(client, q="text number 77", collection="numbers", limit=5)
        monkeypatch.setattr(vectors, "EXACT_UP_TO", 100)
        through_index = search(client, q="text number 77", collection="numbers", limit=5)
        assert through_index[0]["text"] == exactly[0]["text"] == "text number 77"
        assert [hit["score"] for hit in through_index] == pytest.approx([hit["score"] for hit in exactly], abs=1e-3)
        wanted = {"collection": "numbers", "model": "offline", "vector": str([0.5] * 256), "limit": 5}
        with database.transaction() as session:
            session.all("search_widely")
            plan = session.run("EXPLAIN " + vectors._THROUGH_INDEX.replace("DIMENSIONS", "256"), wanted)
        assert "embeddings_nearest_256" in str(plan)

    def test_a_small_part_of_many_is_found_whole(
        self, embed: Embed, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        embed(*(f"text number {number}" for number in range(300)), collection="numbers")
        embed(*(f"letter {letter}" for letter in "abcdefgh"), collection="letters")
        monkeypatch.setattr(vectors, "EXACT_UP_TO", 5)
        assert len(search(client, q="text number 5", collection="letters", limit=8)) == 8

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("", "q"),
            ("?q=", "q"),
            ("?q=%20", "q"),
            ("?q=x&limit=0", "limit"),
            ("?q=x&limit=101", "limit"),
            ("?q=x&limit=many", "limit"),
            ("?q=x&dimensions=0", "dimensions"),
            ("?q=x&collection=", "collection"),
            ("?q=x&k=5", "k"),
            ("?q=%00", "q"),
        ],
    )
    def test_bad_queries_are_named(self, query: str, field: str, client: FlaskClient) -> None:
        answer = client.get(f"/api/v1/embeddings/search{query}")
        assert answer.status_code == 422
        assert list(answer.get_json()["errors"]["query"]) == [field]


class TestEndpoints:
    """What the model endpoint does to a search."""

    @pytest.fixture(autouse=True)
    def _endpoint(
        self, client: FlaskClient, model_server: tuple[ModelServer, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.server, url = model_server
        searching = services.get().embeddings
        settings = replace(services.get().settings, llm_base_url=url, llm_api_key="sk-0123456789abcdef")
        monkeypatch.setattr(searching, "_settings", settings)

    def test_the_query_is_embedded_by_the_model(self, embed: Embed, client: FlaskClient) -> None:
        embed(*TEXTS, model="own", providers=Script())
        assert search(client, q=TEXTS[1], model="own", limit=1)[0]["text"] == TEXTS[1]
        assert self.server.calls == [{"model": "own", "input": [TEXTS[1]]}]
        assert self.server.keys == ["Bearer sk-0123456789abcdef"]

    @pytest.mark.parametrize(
        ("behaviour", "status"),
        [
            (Behaviour("error", status=500), 502),
            (Behaviour("error", status=401), 502),
            (Behaviour("error", status=429, headers={"Retry-After": "7"}), 503),
            (Behaviour("garbage"), 502),
            (Behaviour("drop"), 502),
            (Behaviour("hang"), 504),
        ],
    )
    def test_its_failures_are_answers(
        self, behaviour: Behaviour, status: int, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(jobs.embeddings, "EMBED_SECONDS", 0.5)
        self.server.usual = behaviour
        answer = client.get("/api/v1/embeddings/search?q=x")
        assert answer.status_code == status
        assert set(answer.get_json()) == {"code", "status", "message"}
        assert answer.headers.get("Retry-After") == behaviour.headers.get("Retry-After")

    def test_searches_that_wait_leave_room_for_other_requests(
        self, app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(jobs.embeddings, "EMBED_SECONDS", 3.0)
        self.server.usual = Behaviour("hang")
        path, most = "/api/v1/embeddings/search?q=x", jobs.embeddings.EMBED_AT_ONCE
        assert most < services.WEB_THREADS / 2
        with ThreadPoolExecutor(most) as threads:
            waiting = [threads.submit(lambda: app.test_client().get(path).status_code) for _ in range(most)]
            wait_until(lambda: len(self.server.calls) == most, "the model is asked")
            refused = client.get(path)
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
            assert [one.result() for one in waiting] == [504] * most
        self.server.usual = Behaviour()
        assert client.get(path).status_code == 200, "those that ended have left"


def test_a_collection_is_removed(embed: Embed, client: FlaskClient, database: Database) -> None:
    embed("one", "two", collection="old")
    embed("three", collection="new")
    url = "/api/v1/embeddings?collection=old"
    assert client.delete(url).get_json() == {"collection": "old", "removed": 2}
    assert client.delete(url).get_json() == {"collection": "old", "removed": 0}
    assert [row[0] for row in stored(database)] == ["new"]
    assert client.delete("/api/v1/embeddings").status_code == 422


class TestWithoutPgvector:
    @pytest.fixture
    def database_url(self, servers: Servers) -> Iterator[str]:
        """A migrated database in which extensions could not be created."""
        with servers.database("template0") as url:
            with psycopg.connect(url) as connection:
                connection.execute(
                    "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS"
                    " $$ BEGIN RAISE insufficient_privilege; END $$;"
                    "CREATE EVENT TRIGGER no_extensions ON ddl_command_start"
                    " WHEN TAG IN ('CREATE EXTENSION') EXECUTE FUNCTION refuse()"
                )
            assert "0007_embeddings_and_memories" in migrate(url)
            yield url

    def failure(self, embed: Embed) -> TaskError:
        script = Script()
        with pytest.raises(AttemptError) as caught:
            embed("x", providers=script)
        assert not script.embedded  # nothing was paid for
        return caught.value.error

    def test_task_and_calls_say_what_to_do_and_all_is_well_once_it_is_done(
        self, embed: Embed, client: FlaskClient, configured: Settings
    ) -> None:
        error = self.failure(embed)
        assert (error.code, error.retryable) == ("pgvector_missing", False)
        assert "CREATE EXTENSION vector" in error.message
        for answer in (client.get("/api/v1/embeddings/search?q=x"), client.delete("/api/v1/embeddings?collection=x")):
            assert answer.status_code == 503
            assert answer.get_json()["message"] == error.message
        with psycopg.connect(configured.database_url) as connection:
            connection.execute("DROP EVENT TRIGGER no_extensions")
            connection.execute("CREATE EXTENSION vector")
        embed("x")
        assert search(client, q="x")[0]["text"] == "x"


def test_a_backup_comes_back_where_only_an_administrator_may_create_extensions(
    servers: Servers, configured: Settings, embed: Embed, tmp_path: Path
) -> None:
    embed("kept")
    role = f"plain_{uuid4().hex[:8]}"
    with servers.database("template0") as url:
        with psycopg.connect(url) as connection:
            version = connection.info.server_version // 10_000
            connection.execute(f"CREATE EXTENSION vector; CREATE ROLE {role} LOGIN PASSWORD 'plain'")
            connection.execute(f'ALTER DATABASE "{url.rpartition("/")[2]}" OWNER TO {role}')
        plain = re.sub(r"//[^/@]*@", f"//{role}:plain@", url)
        asyncio.run(backup.restore(plain, asyncio.run(backup.dump(configured.database_url, tmp_path, version))))
        with psycopg.connect(plain) as connection:
            assert connection.execute("SELECT text FROM embeddings").fetchall() == [("kept",)]
            assert migrate(plain) == []
    with psycopg.connect(servers.url_of("postgres")) as connection:
        connection.execute(f"DROP ROLE {role}")
