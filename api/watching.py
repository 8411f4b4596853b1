"""One thread in each web process that learns of tasks and batches for all who watch them here.

It hears what Redis tells (see jobs/live.py), reads PostgreSQL when something moved and every few seconds in any case,
and keeps the topics up to date. Those who watch hold no connection to either.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar, cast

import orjson
import structlog

from api.topics import BatchTopic, TaskTopic, Topic, ends_attempt
from jobs.errors import NotFound, Unavailable
from jobs.live import MOVED, live_channel, text_key
from jobs.queues import CacheClient, RedisError
from jobs.store.database import Database, Row

log = structlog.get_logger(__name__)

T = TypeVar("T", bound=Topic)

_ROUND_SECONDS: Final = 0.05  # within which a new watcher's channel is subscribed to
_LOOK_SECONDS: Final = 5.0  # after which a topic is read again, though nothing was told of it
_AWAY_SECONDS: Final = 0.5  # between tries while Redis or PostgreSQL is away
_BATCH_SECONDS: Final = 0.5  # a batch is counted at most so often
_TEXT_SECONDS: Final = 0.5  # how long the end of an attempt waits for the last of its text at most
_CHUNK: Final = 1000  # messages heard before what moved is read


class TooManyWatchers(Exception):
    """This process has as many watchers as it may have, or is about to end."""


class Hub:
    """What this process's watchers share. `stop` may be called by a signal handler, the rest in any thread."""

    def __init__(
        self, database: Database, connection: CacheClient, read_batch: Callable[[int], dict[str, Any]], most: int
    ) -> None:
        self.is_stopping = False
        self._database = database
        self._redis = connection
        self._read_batch = read_batch
        self._most = most
        self._lock = threading.Lock()
        self._topics: dict[tuple[type[Topic], int], Topic] = {}
        self._watchers = 0
        self._watched = threading.Event()
        self._thread: threading.Thread | None = None
        self._ears: Any = connection.pubsub()  # type: ignore[no-untyped-call]
        self._channels: set[str] = set()
        self._is_deaf = self._is_blind = False  # and that was logged

    def task(self, task_id: int) -> TaskTopic:
        """Begin to watch a task.

        Raises:
            TooManyWatchers: nobody may join now.
        """
        return self._join(TaskTopic(task_id))

    def batch(self, batch_id: int) -> BatchTopic:
        """Begin to watch a batch; raises like `task`."""
        return self._join(BatchTopic(batch_id))

    def _join(self, fresh: T) -> T:
        with self._lock:
            if self.is_stopping or self._watchers >= self._most:
                raise TooManyWatchers
            self._watchers += 1
            topic = cast(T, self._topics.setdefault((type(fresh), fresh.number), fresh))
            topic.watchers += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="watching", daemon=True)
                self._thread.start()
        self._watched.set()
        return topic

    def leave(self, topic: Topic) -> None:
        """Watch it no longer."""
        with self._lock:
            self._watchers -= 1
            topic.watchers -= 1
            if not topic.watchers:
                self._forget(topic)

    def stop(self) -> None:
        """Let all watchers go, soon."""
        self.is_stopping = True
        self._watched.set()

    def _forget(self, topic: Topic) -> None:
        key = (type(topic), topic.number)
        if self._topics.get(key) is topic:
            del self._topics[key]

    # From here on everything happens in the hub's thread.

    def _run(self) -> None:
        while not self.is_stopping:
            if not self._topics:
                self._hang_up()
                self._watched.wait()
                self._watched.clear()
                continue
            try:
                self._listen()
                self._read()
            except Exception:
                log.exception("watching failed")
                time.sleep(_AWAY_SECONDS)
        for topic in list(self._topics.values()):
            topic.close()
        self._hang_up()

    def _listen(self) -> None:
        """Hear what is told within a round."""
        try:
            self._subscribe()
            message = self._ears.get_message(timeout=_ROUND_SECONDS)
            for _ in range(_CHUNK):
                if message is None:
                    break
                self._hear(message)
                message = self._ears.get_message()
            self._is_deaf = False
        except RedisError as error:
            if not self._is_deaf:
                log.warning("watchers hear nothing", reason=str(error))
            self._is_deaf = True
            self._hang_up()
            time.sleep(_AWAY_SECONDS)

    def _subscribe(self) -> None:
        wanted = {MOVED, *(live_channel(number) for kind, number in list(self._topics) if kind is TaskTopic)}
        if new := wanted - self._channels:
            self._ears.subscribe(*new)
        if old := self._channels - wanted:
            self._ears.unsubscribe(*old)
        self._channels = wanted

    def _hang_up(self) -> None:
        self._ears.close()
        self._channels = set()

    def _hear(self, message: dict[str, Any]) -> None:
        channel = message["channel"].decode()
        if message["type"] == "subscribe":
            # What comes from here on is heard: what came before is to be read.
            for topic in self._topics_of(channel):
                topic.due = 0.0
        if message["type"] != "message":
            return
        try:
            news = orjson.loads(message["data"])
            if channel == MOVED:
                self._hear_moved(news)
                return
            for topic in self._topics_of(channel):
                if isinstance(topic, TaskTopic) and not topic.hear(news):
                    topic.due = 0.0
        except (ValueError, LookupError, TypeError):
            log.warning("ignored what is not understood", channel=channel)

    def _topics_of(self, channel: str) -> list[Topic]:
        if channel == MOVED:
            return list(self._topics.values())
        topic = self._topics.get((TaskTopic, int(channel.rpartition(":")[2])))
        return [topic] if topic else []

    def _hear_moved(self, news: dict[str, list[int]]) -> None:
        for number in news["tasks"]:
            if topic := self._topics.get((TaskTopic, number)):
                topic.due = 0.0
        for number in news["left"]:
            topic = self._topics.get((TaskTopic, number))
            if isinstance(topic, TaskTopic):
                topic.text_is_told = True
        for number in news["batches"]:
            if topic := self._topics.get((BatchTopic, number)):
                topic.due = min(topic.due, topic.seen + _BATCH_SECONDS)

    def _read(self) -> None:
        """Read what is due."""
        now = time.monotonic()
        due = [topic for topic in list(self._topics.values()) if topic.due <= now]
        for topic in due:
            topic.seen, topic.due = now, now + _LOOK_SECONDS
        try:
            if tasks := [topic for topic in due if isinstance(topic, TaskTopic)]:
                self._read_tasks(tasks)
            for topic in due:
                if isinstance(topic, BatchTopic):
                    self._read_one_batch(topic)
            self._is_blind = False
        except Unavailable as error:
            if not self._is_blind:
                log.warning("watchers see nothing", reason=str(error))
            self._is_blind = True
            for topic in due:
                topic.due = now + _AWAY_SECONDS
        for topic in due:
            if topic.is_over:
                # Whoever comes now is told of what may come after this end.
                with self._lock:
                    self._forget(topic)

    def _read_one_batch(self, topic: BatchTopic) -> None:
        try:
            topic.learn(self._read_batch(topic.number))
        except NotFound:
            topic.close()

    def _read_tasks(self, topics: Sequence[TaskTopic]) -> None:
        places = {"ids": [topic.number for topic in topics], "afters": [topic.last_event for topic in topics]}
        found: dict[int, list[Row]] = {}
        for row in self._database.all("watched_tasks", {**places, "fresh": _TEXT_SECONDS}):
            found.setdefault(row["task_id"], []).append(row)
        texts = self._texts([rows[0] for rows in found.values() if rows[0]["stream"]])
        for topic in topics:
            if rows := found.get(topic.number):
                self._pass_on(topic, rows, texts.get(topic.number, ""))
            else:
                topic.close()

    def _pass_on(self, topic: TaskTopic, rows: Sequence[Row], text: str) -> None:
        events = [row for row in rows if row["id"]]
        has_just_ended = events and ends_attempt(events[-1]) and events[-1]["is_fresh"]
        if rows[0]["stream"] and has_just_ended and not topic.text_is_told:
            topic.due = topic.seen + _ROUND_SECONDS  # the last of its text may be on its way
        else:
            topic.learn(rows[0], events, text)

    def _texts(self, tasks: Sequence[Row]) -> dict[int, str]:
        """The text so far of the tasks' newest attempts, where there is any."""
        if not tasks:
            return {}
        try:
            stored = cast(Any, self._redis.mget([text_key(task["task_id"], task["fence"]) for task in tasks]))
        except RedisError:
            return {}  # what comes is heard when Redis is back
        return {
            task["task_id"]: text.decode(errors="replace") for task, text in zip(tasks, stored, strict=True) if text
        }
