"""Watching over HTTP: what is told, when, and who is let in."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import orjson
import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

from api import create_app, live, services, watching
from api.requests import Turns
from jobs.beats import LEASE_SECONDS, WATCH_SECONDS
from jobs.errors import Unavailable
from jobs.live import MOVED, live_channel, text_key
from jobs.queues import Doorbell
from jobs.reconcile import Reconciler
from jobs.setting_values import ApiKey
from jobs.settings import Settings
from jobs.store.database import Database
from tests.support.access import OWN, Line, bearer, form_token, log_in
from tests.support.hand import claim, finish, record, register
from tests.support.waiting import wait_until
from tests.support.watching import STREAM, Event, parse, states_of, text_of

TASK = {"prompt": "p", "model": "m"}
MOST = 20


@pytest.fixture
def configured(configured: Settings) -> Settings:
    return replace(configured, watchers_max=MOST)


@pytest.fixture
def _only_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not told is not seen."""
    monkeypatch.setattr(watching, "_LOOK_SECONDS", 3600.0)


class Stream:
    """An open answer of the app in this process, read in a thread."""

    def __init__(self, client: FlaskClient, path: str, **headers: str) -> None:
        self.response = client.get(path, headers={**STREAM, **headers})
        assert (self.response.status_code, self.response.mimetype) == (200, "text/event-stream")
        self.parts: list[str] = []
        self.is_over = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for part in self.response.iter_encoded():
            self.parts.append(part.decode())
        self.response.close()
        self.is_over = True

    @property
    def events(self) -> list[Event]:
        return list(parse("".join(self.parts).splitlines()))

    def until(self, state: str) -> None:
        wait_until(lambda: state in states_of(self.events), f"told of {state}")

    def ended(self) -> list[Event]:
        wait_until(lambda: self.is_over, "the stream has ended")
        assert self.events[-1].kind == "end"
        return self.events


Watch = Callable[..., Stream]


@pytest.fixture
def watch(client: FlaskClient) -> Watch:
    """Begins to watch a task; returns once its first event was told."""

    def begin(task_id: int, **headers: str) -> Stream:
        stream = Stream(client, f"/api/v1/tasks/{task_id}/events", **headers)
        wait_until(lambda: stream.events, "the first event")
        return stream

    return begin


def submit(client: FlaskClient, **fields: Any) -> int:
    return int(client.post("/api/v1/tasks", json={**TASK, **fields}).get_json()["id"])


class Worker:
    """A worker played by hand that streams."""

    def __init__(self, database: Database, redis_client: "redis.Redis", task_id: int) -> None:
        self._database = database
        self._redis = redis_client
        self._task = task_id
        self._worker = register(database)
        self._text = ""
        self._fence = 0
        self.claim()

    def claim(self) -> None:
        self._fence = claim(self._database, self._worker, [self._task])[0]["fence"]
        self._text = ""
        self.ring()

    def keep(self, text: str) -> None:
        """Store text without telling."""
        self._text += text
        self._redis.set(text_key(self._task, self._fence), self._text)

    def say(self, text: str) -> None:
        news = {"type": "text", "fence": self._fence, "offset": len(self._text), "text": text}
        self.keep(text)
        self._redis.publish(live_channel(self._task), orjson.dumps(news))

    def end(self, status: str = "COMPLETED") -> None:
        """End the attempt without telling."""
        record(self._database, (self._task, self._fence, status))

    def ring(self, *left: int) -> None:
        self._redis.publish(MOVED, orjson.dumps({"tasks": [self._task], "left": left, "batches": []}))


@pytest.mark.usefixtures("_only_when_told")
class TestTransitionsOfOtherProcesses:
    """They are told at once, not only seen when the hub looks."""

    def test_a_cancel(self, client: FlaskClient, watch: Watch) -> None:
        stream = watch(task_id := submit(client))
        client.post(f"/api/v1/tasks/{task_id}/cancel")
        assert stream.ended()[-1].data == {"status": "CANCELLED"}

    def test_children_of_a_parent_that_was_cancelled(self, client: FlaskClient, watch: Watch) -> None:
        parent = submit(client)
        stream = watch(submit(client, depends_on=[parent]))
        client.post(f"/api/v1/tasks/{parent}/cancel")
        assert states_of(stream.ended()) == ["BLOCKED", "FAILED"]

    def test_a_retry_by_hand(self, client: FlaskClient, redis_client: "redis.Redis") -> None:
        task_id = submit(client)
        client.post(f"/api/v1/tasks/{task_id}/cancel")
        with redis_client.pubsub(ignore_subscribe_messages=True) as ears:  # type: ignore[no-untyped-call]
            ears.subscribe(MOVED)
            wait_until(lambda: redis_client.pubsub_numsub(MOVED)[0][1], "subscribed")
            client.post(f"/api/v1/tasks/{task_id}/retry")
            told = wait_until(lambda: ears.get_message(timeout=1), "told")
        assert orjson.loads(told["data"]) == {"tasks": [task_id], "left": [task_id], "batches": []}

    def test_tasks_of_a_lost_worker(
        self, client: FlaskClient, watch: Watch, database: Database, doorbell: Doorbell
    ) -> None:
        task_id = submit(client)
        claim(database, register(database), [task_id])
        stream = watch(task_id)
        now = [0.0]
        reconciler = Reconciler(database, doorbell, clock=lambda: now[0])
        while now[0] <= LEASE_SECONDS:
            reconciler.watch_workers()
            now[0] += WATCH_SECONDS
        reconciler.watch_workers()
        wait_until(lambda: states_of(stream.events)[-1] == "PENDING", "told that it waits again")


def test_what_nobody_told_is_seen_soon(
    client: FlaskClient, watch: Watch, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_LOOK_SECONDS", 0.1)
    task_id = submit(client)
    stream = watch(task_id)
    finish(database, task_id)
    assert states_of(stream.ended()) == ["PENDING", "PROCESSING", "COMPLETED"]


def test_an_ended_task_is_told_with_its_end_at_once(client: FlaskClient, watch: Watch, database: Database) -> None:
    task_id = submit(client)
    finish(database, task_id)
    log = client.get(f"/api/v1/tasks/{task_id}/events").get_json()
    for _ in range(2):
        *states, end = watch(task_id).ended()
        assert [event.data for event in states] == log
        assert [event.id for event in states] == [str(entry["id"]) for entry in log]
        assert end.data == {"status": "COMPLETED"}


def test_a_task_retried_after_its_end_is_watched_again(client: FlaskClient, watch: Watch) -> None:
    task_id = submit(client)
    client.post(f"/api/v1/tasks/{task_id}/cancel")
    first = watch(task_id).ended()
    client.post(f"/api/v1/tasks/{task_id}/retry")
    again = watch(task_id, **{"Last-Event-ID": first[-1].id})
    assert states_of(again.events) == ["PENDING"]
    client.post(f"/api/v1/tasks/{task_id}/cancel")
    assert states_of(again.ended()) == ["PENDING", "CANCELLED"]


@pytest.mark.usefixtures("_only_when_told")
class TestText:
    def test_what_somebody_else_put_there_harms_no_watcher(
        self, client: FlaskClient, watch: Watch, database: Database, redis_client: "redis.Redis"
    ) -> None:
        worker = Worker(database, redis_client, task_id := submit(client, stream=True))
        redis_client.set(text_key(task_id, worker._fence), b"\xff")
        stream = watch(task_id)
        worker.end()
        worker.ring(task_id)
        assert states_of(stream.ended())[-1] == "COMPLETED"

    def test_the_text_so_far_comes_first_then_each_piece(
        self, client: FlaskClient, watch: Watch, database: Database, redis_client: "redis.Redis"
    ) -> None:
        worker = Worker(database, redis_client, task_id := submit(client, stream=True))
        worker.say("生成 so far")
        stream = watch(task_id)
        wait_until(lambda: text_of(stream.events) == "生成 so far", "the text so far")
        worker.say(", and")
        worker.say(" on")
        wait_until(lambda: text_of(stream.events) == "生成 so far, and on", "the pieces")
        again = Stream(client, f"/api/v1/tasks/{task_id}/events", **{"Last-Event-ID": stream.events[-1].id})
        worker.say(".")
        wait_until(lambda: text_of(stream.events).endswith("."), "the end of the text")
        wait_until(lambda: again.events, "what came since")
        assert [event.data for event in again.events] == [{"offset": len("生成 so far, and on"), "text": "."}]

    def test_a_piece_that_was_not_heard_is_read(
        self, client: FlaskClient, watch: Watch, database: Database, redis_client: "redis.Redis"
    ) -> None:
        worker = Worker(database, redis_client, task_id := submit(client, stream=True))
        stream = watch(task_id)
        worker.say("heard, ")
        worker.keep("unheard, ")
        worker.say("heard")
        wait_until(lambda: text_of(stream.events) == "heard, unheard, heard", "all of it")

    def test_a_new_attempts_text_begins_anew(
        self, client: FlaskClient, watch: Watch, database: Database, redis_client: "redis.Redis"
    ) -> None:
        worker = Worker(database, redis_client, task_id := submit(client, stream=True))
        stream = watch(task_id)
        worker.say("the first attempt")
        wait_until(lambda: text_of(stream.events), "some text")
        worker.end("PENDING")
        worker.ring(task_id)
        worker.claim()
        worker.say("second")
        wait_until(lambda: text_of(stream.events) == "second", "the new text")
        assert states_of(stream.events) == ["PENDING", "PROCESSING", "PENDING", "PROCESSING"]

    def test_the_end_waits_for_the_last_of_the_text(
        self,
        client: FlaskClient,
        watch: Watch,
        database: Database,
        redis_client: "redis.Redis",
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(watching, "_TEXT_SECONDS", 3600.0)
        worker = Worker(database, redis_client, task_id := submit(client, stream=True))
        stream = watch(task_id)
        worker.say("almost ")
        wait_until(lambda: text_of(stream.events), "some text")
        hubs, reads = services.get().database, list[str]()
        read = hubs.all

        def counted(name: str, params: Any) -> Any:
            reads.append(name)
            return read(name, params)

        monkeypatch.setattr(hubs, "all", counted)
        worker.end()
        worker.ring()
        wait_until(lambda: len(reads) > 2, "the hub has seen the end")
        worker.say("whole")
        worker.ring(task_id)
        assert text_of(stream.ended()) == "almost whole"
        assert [event.kind for event in stream.events][-3:] == ["text", "state", "end"]

    def test_a_connection_to_redis_that_breaks_loses_nothing(
        self, client: FlaskClient, watch: Watch, database: Database, redis_client: "redis.Redis"
    ) -> None:
        worker = Worker(database, redis_client, task_id := submit(client, stream=True))
        stream = watch(task_id)
        worker.say("before, ")
        wait_until(lambda: text_of(stream.events), "some text")
        # Before the connection breaks, as the hub may be back, and have read, before anything that comes next.
        worker.keep("meanwhile")
        redis_client.client_kill_filter(_type="pubsub")
        wait_until(lambda: text_of(stream.events) == "before, meanwhile", "what was not heard")
        worker.say(", after")
        wait_until(lambda: text_of(stream.events) == "before, meanwhile, after", "what is heard again")


def test_progress_is_told(client: FlaskClient, watch: Watch, database: Database, redis_client: "redis.Redis") -> None:
    Worker(database, redis_client, task_id := submit(client))
    stream = watch(task_id)
    stream.until("PROCESSING")
    told = {"type": "progress", "fence": 1, "percent": 40, "message": "almost half"}
    redis_client.publish(live_channel(task_id), orjson.dumps(told))
    wait_until(lambda: stream.events[-1].kind == "progress", "told of it")
    assert stream.events[-1].data == {"percent": 40, "message": "almost half"}


def test_nonsense_in_redis_and_a_database_that_is_away_do_not_end_the_watching(
    client: FlaskClient, watch: Watch, redis_client: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = submit(client)
    stream = watch(task_id)
    refused = threading.Event()

    def away(*_: Any) -> Any:
        refused.set()
        raise Unavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(services.get().database, "all", away)
        for nonsense in ("{", "[]", '{"type": "text"}', '{"tasks": 5}', "\x00"):
            redis_client.publish(MOVED, nonsense)
            redis_client.publish(live_channel(task_id), nonsense)
        redis_client.publish(MOVED, orjson.dumps({"tasks": [task_id], "left": [], "batches": []}))
        assert refused.wait(10)
    client.post(f"/api/v1/tasks/{task_id}/cancel")
    assert stream.ended()[-1].data == {"status": "CANCELLED"}


class TestAnswers:
    def test_the_log_stays_json_and_may_begin_after_an_event(self, client: FlaskClient) -> None:
        task_id = submit(client)
        client.post(f"/api/v1/tasks/{task_id}/cancel")
        path = f"/api/v1/tasks/{task_id}/events"
        answer = client.get(path)
        first, second = answer.get_json()
        assert answer.headers["X-Total-Count"] == "2"
        assert client.get(path, headers={"Accept": "*/*"}).mimetype == "application/json"
        assert client.get(f"{path}?after={first['id']}").get_json() == [second]
        refused = client.get(f"{path}?after=x")
        assert (refused.status_code, list(refused.get_json()["errors"]["query"])) == (422, ["after"])
        assert states_of(Stream(client, f"{path}?after={first['id']}").ended()) == ["CANCELLED"]
        assert states_of(Stream(client, path, **{"Last-Event-ID": "no id"}).ended()) == ["PENDING", "CANCELLED"]

    @pytest.mark.parametrize("kind", ["tasks", "batches"])
    def test_what_is_not_there_is_404(self, kind: str, client: FlaskClient) -> None:
        assert client.get(f"/api/v1/{kind}/99/events", headers=STREAM).status_code == 404
        assert client.get(f"/api/v1/{kind}/99/events").status_code == 404

    def test_nothing_between_keeps_the_stream_back(self, client: FlaskClient, watch: Watch) -> None:
        headers = watch(submit(client), **{"X-Request-ID": "mine"}).response.headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Accel-Buffering"] == "no"
        assert headers["X-Request-ID"] == "mine"
        assert "Content-Length" not in headers

    def test_silence_is_broken_by_comments(
        self, client: FlaskClient, watch: Watch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(live, "_HEARTBEAT_SECONDS", 0.02)
        stream = watch(submit(client))
        wait_until(lambda: "".join(stream.parts).count(": still here\n\n") > 2, "comments")

    def test_the_document_describes_the_streams(self, client: FlaskClient) -> None:
        paths = client.get("/openapi.json").get_json()["paths"]
        for path in ("/api/v1/tasks/{task_id}/events", "/api/v1/batches/{batch_id}/events"):
            described = paths[path]["get"]
            assert set(described["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
            assert "`end`" in described["description"]

    def test_reading_is_enough_and_needed(self, configured: Settings) -> None:
        secrets = {scope: f"{scope}-0123456789abcdef" for scope in ("read", "submit")}
        keys = tuple(ApiKey(scope, secret, scope) for scope, secret in secrets.items())  # type: ignore[arg-type]
        app = create_app(replace(configured, api_keys=keys))
        client = app.test_client()
        bearer = {scope: {"Authorization": f"Bearer {secret}"} for scope, secret in secrets.items()}
        made = client.post("/api/v1/tasks", json=TASK, headers=bearer["submit"]).get_json()
        path = f"/api/v1/tasks/{made['id']}/events"
        client.post(f"/api/v1/tasks/{made['id']}/cancel", headers=bearer["submit"])
        assert client.get(path, headers=STREAM).status_code == 401
        assert Stream(client, path, **bearer["read"]).ended()
        app.extensions["pressroom"].hub.stop()
        app.extensions["pressroom"].database.close()


class TestMany:
    @pytest.fixture
    def crowd(self, client: FlaskClient) -> Iterator[list[Any]]:
        """As many watchers as are let in, of a task each; their answers."""
        with ExitStack() as stack:
            answers = [client.get(f"/api/v1/tasks/{submit(client)}/events", headers=STREAM) for _ in range(MOST)]
            for answer in answers:
                assert answer.status_code == 200
                stack.callback(answer.close)
            yield answers

    def test_more_are_sent_away_until_one_leaves(self, client: FlaskClient, crowd: list[Any]) -> None:
        path = f"/api/v1/tasks/{submit(client)}/events"
        refused = client.get(path, headers=STREAM)
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) > 0
        assert refused.get_json()["message"]
        crowd[0].close()
        answer = client.get(path, headers=STREAM)
        assert answer.status_code == 200
        answer.close()

    def test_they_hold_no_connection_to_the_database(self, client: FlaskClient, crowd: list[Any]) -> None:
        assert len(crowd) > services.WEB_THREADS + 1
        assert submit(client)

    def test_asking_for_the_headers_takes_no_place(self, client: FlaskClient) -> None:
        path = f"/api/v1/tasks/{submit(client)}/events"
        for _ in range(MOST + 1):
            answer = client.head(path, headers=STREAM)
            assert answer.status_code == 200
            answer.close()

    def test_all_are_let_go_when_the_process_is_to_end(self, client: FlaskClient, watch: Watch) -> None:
        task_id = submit(client)
        streams = [watch(task_id), watch(task_id)]
        services.get().hub.stop()
        wait_until(lambda: all(stream.is_over for stream in streams), "they are let go")
        assert [event.kind for event in streams[0].events] == ["state"], "without an end: they are to come again"
        assert client.get(f"/api/v1/tasks/{task_id}/events", headers=STREAM).status_code == 503

    def test_who_left_leaves_nothing_behind(
        self, client: FlaskClient, watch: Watch, redis_client: "redis.Redis"
    ) -> None:
        task_id = submit(client)
        watch(task_id)
        channel = live_channel(task_id)
        wait_until(lambda: redis_client.pubsub_channels(channel), "the hub listens")
        client.post(f"/api/v1/tasks/{task_id}/cancel")
        wait_until(lambda: not redis_client.pubsub_channels(channel), "the hub listens no longer")


class TestAdmission:
    """A stream is for those who would be let in now, not only when it began."""

    @pytest.fixture(autouse=True)
    def _soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(live, "_HEARTBEAT_SECONDS", 0.05)

    @pytest.fixture
    def token(self, line: Line) -> str:
        return line("make", "ada", "--scope", "admin")

    def begin(self, client: FlaskClient, **headers: str) -> tuple[int, Stream]:
        task_id = int(client.post("/api/v1/tasks", json=TASK, headers={**OWN, **headers}).get_json()["id"])
        stream = Stream(client, f"/api/v1/tasks/{task_id}/events", **headers)
        wait_until(lambda: stream.events, "the first event")
        return task_id, stream

    def cut(self, stream: Stream) -> bool:
        """Wait until it is over; whether that was before its end."""
        wait_until(lambda: stream.is_over, "the stream is over")
        return stream.events[-1].kind != "end"

    def test_revoking_the_key_ends_it(self, token: str, line: Line, client: FlaskClient) -> None:
        other = line("make", "bob", "--scope", "submit")
        _, stream = self.begin(client, **bearer(token))
        task_id, anothers = self.begin(client, **bearer(other))
        line("revoke", "ada")
        assert self.cut(stream)
        client.post(f"/api/v1/tasks/{task_id}/cancel", headers=bearer(other))
        assert not self.cut(anothers)

    def test_nothing_more_is_told_where_much_happens(
        self, token: str, line: Line, client: FlaskClient, database: Database, redis_client: "redis.Redis"
    ) -> None:
        task_id, stream = self.begin(client, **bearer(token))
        worker = Worker(database, redis_client, task_id)
        line("revoke", "ada")

        def says_on() -> bool:
            worker.say("more ")
            return stream.is_over

        wait_until(says_on, "the stream is over", every=0.005)

    @pytest.mark.parametrize("end", ["log out", "revoke"])
    def test_the_end_of_the_session_ends_it(self, end: str, token: str, line: Line, client: FlaskClient) -> None:
        log_in(client, token)
        _, stream = self.begin(client)
        _, by_key = self.begin(client, **bearer(token))
        if end == "revoke":
            line("revoke", "ada")
            assert self.cut(by_key)
        else:
            client.post("/logout", data={"csrf": form_token(client)}, headers=OWN)
        assert self.cut(stream)
        assert by_key.is_over == (end == "revoke"), "what was begun with a key needs no session"

    def test_the_first_key_ends_those_without_one(self, line: Line, client: FlaskClient) -> None:
        _, stream = self.begin(client)
        line("make", "ada", "--scope", "admin")
        assert self.cut(stream)

    def test_while_that_is_not_known_it_goes_on(
        self, token: str, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log_in(client, token)
        task_id, stream = self.begin(client)
        asked: list[str] = []

        def away(token: str) -> Any:
            asked.append(token)
            raise Unavailable("away")

        with monkeypatch.context() as patch:
            patch.setattr(services.get().sessions, "key_of", away)
            wait_until(lambda: len(asked) > 2, "it is asked again")
        client.post(f"/api/v1/tasks/{task_id}/cancel", headers=OWN)
        assert not self.cut(stream)


class TestBatches:
    def test_a_batch_is_told_as_it_moves_until_all_of_it_has_ended(
        self, client: FlaskClient, database: Database, redis_client: "redis.Redis"
    ) -> None:
        answer = client.post("/api/v1/tasks/batch", json={"tasks": [TASK] * 3}).get_json()
        path = f"/api/v1/batches/{answer['id']}/events"
        assert client.get(path).get_json() == answer
        stream = Stream(client, path)
        wait_until(lambda: stream.events, "the batch as it is")
        assert stream.events[0].data == answer
        first = client.get(f"/api/v1/tasks?batch_id={answer['id']}").get_json()[0]["id"]
        finish(database, first)
        redis_client.publish(MOVED, orjson.dumps({"tasks": [first], "left": [first], "batches": [answer["id"]]}))
        wait_until(lambda: stream.events[-1].data["progress"] == 33, "told that a third is done")
        client.post(f"/api/v1/batches/{answer['id']}/cancel")
        *_, last, end = stream.ended()
        assert last.data["counts"] == {"COMPLETED": 1, "CANCELLED": 2}
        assert end.data == {"status": "CANCELLED"}
        assert Stream(client, path).ended()[0].data == last.data


def test_answers_that_go_on_for_long_keep_nobody_waiting(app: Flask) -> None:
    turns = Turns(lambda environ, _start: iter([environ["name"]]), 1)
    first = turns({"name": b"first"}, app.make_response)  # type: ignore[arg-type]
    second = turns({"name": b"second"}, app.make_response)  # type: ignore[arg-type]
    assert [*second, *first] == [b"second", b"first"]
