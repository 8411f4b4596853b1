"""Many tasks from a file: what is read, what is refused, and how a run goes on after another."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from api.schemas import NewTask
from cli import batch, reading
from cli.problems import Problem
from deploy import connections, patience
from tests.support.calling import Batches, Service, events, lines_of


def read(path: Path, form: str = "jsonl", **defaults: Any) -> list[reading.Task]:
    return list(batch.Source(path, path.name, form, defaults).tasks())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "in.jsonl"


class TestReading:
    def test_a_batch_takes_what_the_service_takes(self) -> None:
        assert set(reading._KINDS) == set(NewTask().fields) - {"unique_key"}

    def test_jsonl_has_a_task_on_each_line(self, file: Path) -> None:
        file.write_bytes('\ufeff{"prompt": "你"}\n\n{"prompt": "b", "model": "own"}'.encode())
        assert read(file, model="m") == [(1, {"model": "m", "prompt": "你"}), (3, {"model": "own", "prompt": "b"})]

    def test_csv_has_columns(self, file: Path) -> None:
        file.write_text(
            'prompt,priority,input.n,input.t,metadata.id\r\n"two\r\nlines",3,5,word,007\r\nb,,,,\r\n', newline=""
        )
        assert read(file, "csv", model="m") == [
            (2, {"model": "m", "prompt": "two\r\nlines", "priority": 3, "input": {"n": 5, "t": "word"},
                 "metadata": {"id": "007"}}),
            (4, {"model": "m", "prompt": "b"}),
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("content", "form", "said"),
        [
            ('{"prompt": "a"}\n{"prompt": 5}\n', "jsonl", "f:2: prompt: must be a text"),
            ('{"prompt": "a"}\nnonsense\n', "jsonl", "f:2: is not JSON"),
            ('"a"\n', "jsonl", "f:1: is not an object"),
            ('{"prompt": " "}\n', "jsonl", "f:1: prompt: is blank"),
            ('{"promt": "a"}\n', "jsonl", "f:1: promt: there is no such field"),
            ('{"prompt": "a", "unique_key": "k"}\n', "jsonl", "f:1: unique_key: there is no such field"),
            ('{"prompt": "a", "priority": true}\n', "jsonl", "f:1: priority: must be an integer"),
            ("prompt,colour\na,b\n", "csv", "f:1: there is no column 'colour'"),
            ("prompt,prompt\na,b\n", "csv", "f:1: two columns"),
            ("prompt,input.\na,b\n", "csv", "f:1: there is no column 'input.'"),
            ("prompt,metadata.\na,b\n", "csv", "f:1: there is no column 'metadata.'"),
            ("prompt,input,input.x\na,[],b\n", "csv", "f:1: 'input' and 'input.x' are columns both"),
            ("prompt,priority\na\n", "csv", "f:2: has 1 cells, the first line 2"),
            ("prompt,priority\na,high\n", "csv", "f:2: priority: must be an integer"),
            ('prompt\n"a\n', "csv", "f:2: is not CSV"),
        ],
    )
    def test_what_is_wrong_is_named_with_line_and_field(
        self, tmp_path: Path, content: str, form: str, said: str
    ) -> None:
        file = tmp_path / "f"
        file.write_text(content)
        with pytest.raises(Problem) as caught:
            read(file, form, model="m")
        assert said in caught.value.message
        assert caught.value.code == 2


def test_what_is_nested_too_deep_is_named_before_anything_is_submitted(file: Path) -> None:
    deep = {"prompt": "a", "input": {"a": 0}}
    file.write_bytes(orjson.dumps(deep) + b"\n" + orjson.dumps(deep).replace(b"0", b"[" * 251 + b"]" * 251))
    with pytest.raises(Problem, match=r"in.jsonl:2: cannot be sent: ") as caught:
        batch.Plan.of(batch.Source(file, file.name, "jsonl", {"model": "m"}))
    assert caught.value.code == 2


def test_the_model_of_prompts_is_for_lines_with_one(file: Path) -> None:
    file.write_text('{"prompt": "a"}\n{"task_type": "embedding", "input": {}}\n{"prompt": "b", "model": "own"}\n')
    tasks = batch.Source(file, file.name, "jsonl", {}, "chat").tasks()
    assert [task.body.get("model") for task in tasks] == ["chat", None, "own"]


def test_requests_arrive_over_a_slow_line() -> None:
    seconds = patience.REQUEST_SECONDS + batch._MOST_BYTES / connections.BYTES_A_SECOND
    assert 8 * batch._MOST_BYTES / seconds < 2e6, "bits a second"


class TestRuns:
    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
        monkeypatch.setattr(batch, "MOST_TASKS", 3)
        file.write_bytes(b"".join(orjson.dumps({"prompt": f"p{n}"}) + b"\n" for n in range(7)))

    @pytest.fixture
    def out(self, tmp_path: Path) -> Path:
        return tmp_path / "out.jsonl"

    def call(self, played: Batches, file: Path, out: Path, *more: str) -> int:
        return played.service.run("batch", str(file), "-o", str(out), "-m", "m", *more)

    def test_answers_come_in_order(self, file: Path, out: Path) -> None:
        played = Batches()
        assert self.call(played, file, out) == 0
        assert [len(tasks) for tasks in played.batches.values()] == [3, 3, 1]
        assert [(line["line"], line["prompt"]) for line in lines_of(out)] == [(n + 1, f"p{n}") for n in range(7)]

    @pytest.mark.parametrize("kept", range(8))
    def test_a_cut_off_output_is_completed(self, file: Path, out: Path, kept: int) -> None:
        played = Batches()
        self.call(played, file, out)
        whole = out.read_bytes()
        lines = whole.splitlines(keepends=True)
        out.write_bytes(b"".join(lines[:kept]) + b"".join(lines[kept:])[:9])
        submitted = len(played.service.bodies("/api/v1/tasks/batch"))
        assert self.call(played, file, out) == 0
        assert out.read_bytes() == whole
        assert len(played.service.bodies("/api/v1/tasks/batch")) == submitted

    @pytest.mark.parametrize("known", range(4))
    def test_killed_between_submitting_and_noting_it_submits_nothing_twice(
        self, file: Path, out: Path, known: int
    ) -> None:
        played = Batches()
        self.call(played, file, out)
        state = Path(f"{out}.state")
        noted = orjson.loads(state.read_bytes())
        state.write_bytes(orjson.dumps({**noted, "batches": noted["batches"][:known]}))
        out.write_bytes(b"")
        assert self.call(played, file, out) == 0
        assert len(played.batches) == 3
        assert len(lines_of(out)) == 7

    def test_without_its_state_the_same_tasks_are_found(self, file: Path, tmp_path: Path) -> None:
        played = Batches()
        self.call(played, file, tmp_path / "a")
        self.call(played, file, tmp_path / "b")
        assert len(played.batches) == 3
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
        self.call(played, file, tmp_path / "c", "--again")
        assert len(played.batches) == 6

    def test_an_interrupted_run_that_submits_anew_goes_on(self, file: Path, tmp_path: Path) -> None:
        played = Batches()
        self.call(played, file, tmp_path / "a")
        played.broken = 5
        out = tmp_path / "b"
        assert self.call(played, file, out, "--again") == 6
        played.broken = 0
        assert self.call(played, file, out, "--again") == 0
        assert len(played.batches) == 6
        assert {line["id"] // 100_000 for line in lines_of(out)} == {4, 5, 6}
        assert self.call(played, file, out, "--again") == 2, "they are there"
        assert self.call(played, file, out) == 0
        assert len(played.batches) == 6

    def test_submitting_anew_needs_a_file(self, file: Path) -> None:
        played = Batches()
        assert played.service.run("batch", str(file), "-m", "m", "--again") == 2
        assert played.service.calls == []

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
    def test_a_pipe_is_read_once(self, file: Path, out: Path, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        writer = threading.Thread(target=lambda: pipe.write_bytes(file.read_bytes()), daemon=True)
        writer.start()
        assert self.call(Batches(), pipe, out) == 0
        assert len(lines_of(out)) == 7

    def test_a_file_that_is_not_there_is_said(self, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.call(Batches(), out / "none", out) == 2
        assert "none: No such file" in capsys.readouterr().err

    def test_the_answers_of_others_are_not_overwritten(self, file: Path, out: Path) -> None:
        played = Batches()
        out.write_text("mine\n")
        assert self.call(played, file, out) == 2
        out.unlink()
        self.call(played, file, out)
        file.write_text('{"prompt": "another"}\n')
        assert self.call(played, file, out) == 2
        assert len(lines_of(out)) == 7

    def test_a_wrong_address_is_not_remembered(self, file: Path, out: Path) -> None:
        nobody = Service(lambda _request: httpx.ConnectError("refused"))
        assert nobody.run("batch", str(file), "-o", str(out), "--model", "m") == 6
        assert not Path(f"{out}.state").exists()
        assert self.call(Batches(), file, out) == 0

    def test_failed_tasks_are_exit_code_1_also_when_an_earlier_run_wrote_them(self, file: Path, out: Path) -> None:
        played = Batches()
        played.failing = {"p1"}
        assert self.call(played, file, out) == 1
        assert self.call(played, file, out) == 1
        assert lines_of(out)[1]["status"] == "FAILED"

    def test_a_wrong_last_line_submits_nothing(self, file: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with file.open("a") as more:
            more.write("{}\n")
        played = Batches()
        assert self.call(played, file, out) == 2
        assert played.service.calls == []
        assert f"{file}:8: prompt: is missing" in capsys.readouterr().err
        assert not out.exists()

    def test_what_the_service_refuses_is_named_by_line_and_the_rest_taken_back(
        self, file: Path, out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        played = Batches()
        played.refused = {2: {"0": {"prompt": ["Longer than 5."]}}}
        assert self.call(played, file, out) == 2
        assert f"{file}:7: prompt: Longer than 5." in capsys.readouterr().err
        assert played.cancelled == [1, 2]
        played.refused = {}
        file.write_text('{"prompt": "p"}\n')
        assert self.call(played, file, out) == 0

    def test_what_has_ended_does_not_hide_which_line_is_bad(
        self, file: Path, out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        played = Batches()
        played.refused = {2: {"0": {"prompt": ["Longer than 5."]}}}
        played.ended = {1}
        assert self.call(played, file, out) == 2
        assert f"{file}:7: prompt: Longer than 5." in capsys.readouterr().err
        assert played.cancelled == [2]

    def test_what_was_taken_back_is_submitted_anew(self, file: Path, out: Path) -> None:
        played = Batches()
        played.refused = {2: {"0": {"prompt": ["Longer than 5."]}}}
        self.call(played, file, out)
        played.refused = {}
        assert self.call(played, file, out) == 0
        assert len(played.batches) == 5
        assert {line["id"] // 100_000 for line in lines_of(out)} == {3, 4, 5}

    def test_each_answer_is_written_when_the_service_tells_of_it(self, file: Path, out: Path) -> None:
        file.write_bytes(b"".join(orjson.dumps({"prompt": f"p{n}"}) + b"\n" for n in range(3)))
        played, answered = Batches(), 0
        written = []

        def told() -> Iterator[bytes]:
            nonlocal answered
            for answered in (1, 2, 3):
                yield events(("batch", {"counts": {"COMPLETED": answered}}))
                written.append(len(lines_of(out)))
            yield events(("end", {}))

        def answer(request: httpx.Request) -> httpx.Response:
            if request.url.path.endswith("/events"):
                return httpx.Response(200, content=told())
            found = played.service(request)
            if request.url.path != "/api/v1/tasks":
                return found
            tasks = orjson.loads(found.content)
            for task in tasks[max(0, answered - int(request.url.params["skip"])) :]:
                task["status"] = "PROCESSING"
            return httpx.Response(200, json=tasks, headers={"X-Total-Count": "3"})

        assert Service(answer).run("batch", str(file), "-o", str(out), "-m", "m") == 0
        assert written == [1, 2, 3]

    def test_json_tells_the_figures(self, file: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.call(Batches(), file, out, "--json")
        told = orjson.loads(capsys.readouterr().out)
        assert (told["total"], told["completed"], told["failed"], told["batches"]) == (7, 7, 0, [1, 2, 3])
