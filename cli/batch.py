"""Many prompts from a file, their answers into a file, an interruption at any moment in between included.

What makes it safe to begin again: each chunk is submitted with an Idempotency-Key that follows from the tasks
themselves, so the service knows a chunk that came before; which batches they became is also written down beside the
output, for the service forgets keys after a day. The output has one line a task, in the order of the input, so its
number of whole lines is how far we are.
"""

import fcntl
import hashlib
import os
from array import array
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from itertools import islice, takewhile
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self
from uuid import uuid4

import orjson

from cli.client import Client
from cli.live import Progress, ended
from cli.problems import CONFLICT, NOT_THERE, WRONG, BadTasks, Problem, say
from cli.reading import Task, place, read, wrong_lines
from jobs.lifecycle import TERMINAL

MOST_TASKS: Final = 10_000  # that the service takes in one request
_MOST_BYTES: Final = 4 * 1024 * 1024  # it reads more, but waits for a slow line only for so long
_PAGE_LEAST, _PAGE_MOST = 50, 1000
_KEPT: Final = ("id", "status", "prompt", "input", "result", "error", "usage", "metadata")


@dataclass(frozen=True, slots=True)
class Source:
    """Where the tasks are; read twice, so that a mistake on the last line is found before the first is submitted."""

    path: Path
    name: str
    form: str
    defaults: Mapping[str, Any]
    model: str | None = None

    def tasks(self) -> Generator[Task, None, None]:
        """All of them."""
        try:
            with self.path.open("rb") as file:
                yield from read(file, self.name, self.form, self.defaults, self.model)
        except OSError as error:
            raise Problem(f"{self.name}: {error.strerror}", WRONG) from None


@dataclass(slots=True)
class Plan:
    """What is to be submitted: a digest of it all, the line of each task, and how many tasks each chunk has."""

    digest: str
    lines: "array[int]"
    chunks: list[int]

    @classmethod
    def of(cls, source: Source) -> "Plan":
        """Read all of it.

        Raises:
            Problem: something is wrong with it, or there is nothing.
        """
        hashed, lines, chunks, size = hashlib.sha256(), array("Q"), [0], 0
        for task in source.tasks():
            try:
                content = orjson.dumps([[task.body]], option=orjson.OPT_SORT_KEYS)  # as deep as in a request
            except TypeError as error:
                raise wrong_lines([place(source.name, task.line, "", f"cannot be sent: {error}")]) from None
            hashed.update(content + b"\n")
            size += len(content)
            if chunks[-1] == MOST_TASKS or (size > _MOST_BYTES and chunks[-1]):
                chunks.append(0)
                size = len(content)
            chunks[-1] += 1
            lines.append(task.line)
        if not lines:
            raise Problem(f"{source.name}: there are no tasks in it", WRONG)
        return cls(hashed.hexdigest(), lines, chunks)


@dataclass(slots=True)
class Book:
    """What a run leaves for the next one, in `OUTPUT.state`.

    Attributes:
        salt: of runs that submit anew what was submitted before.
        taken_back: how often what was submitted had to be cancelled again; the service still knows it by its keys.
    """

    url: str
    digest: str
    salt: str = ""
    batches: list[int] = field(default_factory=list)
    taken_back: int = 0
    path: Path | None = field(default=None, repr=False)

    def save(self) -> None:
        """Write it so that it is there as a whole, or as it was."""
        if self.path is None:
            return
        unfinished = self.path.with_name(f"{self.path.name}.part")
        with unfinished.open("wb") as file:
            file.write(orjson.dumps({**asdict(self), "path": None}))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self.path)

    def key(self, number: int) -> str:
        """The Idempotency-Key of a chunk."""
        tries = f"-t{self.taken_back}" if self.taken_back else ""
        return f"batch-{self.digest[:40]}{self.salt}{tries}-{number}"

    @classmethod
    def begin(cls, output: Path | None, url: str, digest: str, *, again: bool) -> "Book":
        """The one that lies beside the output, or a new one.

        Raises:
            Problem: the output is another run's.
        """
        salt = f"-{uuid4().hex[:8]}" if again else ""
        path = output.with_name(f"{output.name}.state") if output else None
        if output is None or path is None or not path.exists():
            if output and output.exists() and output.stat().st_size:
                raise Problem(f"{output} exists already, and no batch was writing it; name another file", WRONG)
            return cls(url, digest, salt, path=path)
        try:
            book = cls(**{**orjson.loads(path.read_bytes()), "path": path})
        except (ValueError, TypeError):
            raise Problem(f"{path} is not what this command left there", WRONG) from None
        if not book.batches and book.digest != digest:
            return replace(book, url=url, digest=digest, salt=salt)  # nothing is left of the other tasks
        if book.digest != digest or (again and not book.salt):
            why = "of other tasks than these" if book.digest != digest else "there; --again needs another"
            raise Problem(f"{output} has the answers {why}; name another file, or remove it and {path}", WRONG)
        if book.url != url:
            raise Problem(f"{output} was begun at {book.url}; set PRESSROOM_URL to that, or name another file", WRONG)
        return book


class Output:
    """The file with the answers, or standard output; `written` lines are in it. Leaving it closes the file."""

    def __init__(self, path: Path | None, stdout: IO[bytes]) -> None:
        self.written = self.bad = 0
        self._path = path
        self._file = path.open("a+b") if path else stdout

    def __enter__(self) -> Self:
        if self._path:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self._file.close()
                raise Problem(f"another run is writing {self._path}", CONFLICT) from None
            try:
                self._look()
            except BaseException:
                self._file.close()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._path:
            self._file.close()

    def _look(self) -> None:
        """Count what is there, and cut off a line that was not finished."""
        self._file.seek(0)
        whole = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            try:
                self._count(orjson.loads(line)["status"])
            except (ValueError, TypeError, KeyError):
                raise Problem(
                    f"{self._file.name}:{self.written + 1}: this command did not write that line", WRONG
                ) from None
            whole += len(line)
        self._file.truncate(whole)
        self._file.seek(0, os.SEEK_END)

    def _count(self, status: str) -> None:
        self.written += 1
        self.bad += status != "COMPLETED"

    def write(self, tasks: list[dict[str, Any]], lines: "array[int]") -> None:
        """Add the lines of these tasks."""
        pieces = []
        for task in tasks:
            facts = {"line": lines[self.written], **{name: task[name] for name in _KEPT}}
            pieces.append(orjson.dumps(facts, option=orjson.OPT_APPEND_NEWLINE))
            self._count(task["status"])
        self._file.write(b"".join(pieces))
        self._file.flush()


class Run:
    """One call of the command; `progress` says how far it is."""

    def __init__(self, client: Client, source: Source, plan: Plan, book: Book, output: Output) -> None:
        self._client = client
        self._source = source
        self._plan = plan
        self._output = output
        self.book = book
        self.total = len(plan.lines)
        self.progress = Progress(self.total, output.written)
        self.progress.failed = output.bad

    def submit(self) -> None:
        """Have every chunk be a batch.

        Raises:
            Problem: the service refuses some tasks; what was submitted before them is cancelled.
        """
        missing = self._plan.chunks[len(self.book.batches) :]
        if not missing:
            return
        if self.book.path and not self.book.batches:
            self._client.get("/api/v1/health")  # a wrong address is not to be written down
            self.book.save()
        with closing(self._source.tasks()) as tasks:
            position = sum(self._plan.chunks) - sum(missing)
            next(islice(tasks, position, position), None)
            self._submit(tasks, missing)

    def _submit(self, tasks: Iterator[Task], missing: list[int]) -> None:
        for count in missing:
            chunk = list(islice(tasks, count))
            try:
                made, is_old = self._client.create(
                    "/api/v1/tasks/batch",
                    {"tasks": [task.body for task in chunk]},
                    self.book.key(len(self.book.batches)),
                )
            except BadTasks as error:
                self._take_back()
                raise self._refused(error, chunk) from None
            if is_old:
                say(f"these tasks were submitted before, as batch {made['id']}: nothing is done twice (see --again)")
            self.book.batches.append(made["id"])
            self.book.save()

    def _refused(self, error: BadTasks, chunk: list[Task]) -> Problem:
        return wrong_lines(
            place(self._source.name, chunk[number].line, name, why)
            for number, wrong in sorted(error.wrong.items())
            for name, why in wrong.items()
        )

    def _take_back(self) -> None:
        """Cancel what was submitted before a chunk was refused; of what cannot be, say so and go on."""
        for batch_id in self.book.batches:
            try:
                self._client.post(f"/api/v1/batches/{batch_id}/cancel")
            except Problem as problem:
                if problem.code != CONFLICT:  # else it has ended already
                    say(f"batch {batch_id} is not cancelled: {problem.message}")
        if self.book.batches and not self.book.path:
            say("the service knows these tasks for a day, as cancelled: submit them anew with -o FILE --again")
        self.book.taken_back += bool(self.book.batches)
        self.book.batches.clear()
        if self.book.taken_back:
            self.book.save()
        elif self.book.path:
            self.book.path.unlink(missing_ok=True)

    def collect(self) -> None:
        """Write the answers as they come, until all are there."""
        first = 0
        for batch_id, count in zip(self.book.batches, self._plan.chunks, strict=True):
            if self._output.written < first + count:
                self._collect(batch_id, first, count)
            first += count

    def _collect(self, batch_id: int, first: int, count: int) -> None:
        size = _PAGE_MOST
        # Once more where a task was retried between the end of the events and our look.
        while self._output.written < first + count:
            # An event comes twice a second at most. None is passed over: the next one may be an hour away.
            for event in self._client.follow(f"/api/v1/batches/{batch_id}/events"):
                if event.kind == "batch":
                    counts = event.data["counts"]
                    self.progress.done = max(first + ended(counts), self._output.written)
                    self.progress.failed = max(self._output.bad, counts.get("FAILED", 0) + counts.get("CANCELLED", 0))
                size = self._fetch(batch_id, first, count, size)

    def _fetch(self, batch_id: int, first: int, count: int, size: int) -> int:
        """Write what has ended up to the first task that has not; returns how many to ask for the next time.

        Of tasks behind one that takes long, few are read in vain.
        """
        while (done := self._output.written - first) < count:
            page, total = self._client.slice("/api/v1/tasks", batch_id=batch_id, sort="id", skip=done, limit=size)
            if total != count:
                raise Problem(
                    f"batch {batch_id} has {total} tasks left of {count}: ended tasks are not kept for ever", NOT_THERE
                )
            done_tasks = list(takewhile(lambda task: task["status"] in TERMINAL, page))
            self._output.write(done_tasks, self._plan.lines)
            size = min(_PAGE_MOST, max(_PAGE_LEAST, 2 * len(done_tasks)))
            if len(done_tasks) < len(page):
                break
        return size
