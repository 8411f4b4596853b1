"""Commands: what they ask, print and exit with."""

import os
from pathlib import Path

import httpx
import orjson
import pytest

from cli import connection, show
from cli.app import cli, main
from cli.client import lines_of
from cli.problems import Problem
from tests.support.calling import Service, events

TASK = {
    "id": 7, "prompt": "你好", "model": "m", "status": "COMPLETED", "priority": 5, "created_at": "2026-01-01T00:00:00Z",
    "task_type": "text_generation", "queue": "default", "input": {}, "result": {"text": "世界"}, "error": None,
    "attempt": 1, "max_retries": 3, "started_at": None, "completed_at": None, "usage": {"total_tokens": 3},
    "batch_id": None, "run_seconds": 0.5, "cancel_requested": False,
}  # fmt: skip
FAILED = {**TASK, "status": "FAILED", "result": None, "error": {"code": "timeout", "message": "too late"}}


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("PRESSROOM_URL", "PRESSROOM_API_KEY", "PRESSROOM_API_KEY_FILE", "PRESSROOM_MODEL", "PORT"):
        monkeypatch.delenv(name, raising=False)


def always(status: int, body: object, **headers: str) -> Service:
    return Service(lambda _: httpx.Response(status, json=body, headers=headers))


class TestExitCodes:
    @pytest.mark.parametrize(
        ("status", "code"), [(401, 3), (403, 3), (404, 4), (409, 5), (422, 2), (400, 2), (429, 6), (500, 6), (302, 2)]
    )
    def test_each_refusal_has_one(self, status: int, code: int, capsys: pytest.CaptureFixture[str]) -> None:
        assert always(status, {"message": "so it is"}).run("get", "1") == code
        said = capsys.readouterr()
        assert said.err.startswith("pressroom: ")
        assert said.out == ""

    def test_wrong_usage_is_2(self) -> None:
        assert main(["get", "x"]) == 2
        assert main(["nonsense"]) == 2

    def test_a_refused_connection_is_one_line_at_once(self, capsys: pytest.CaptureFixture[str]) -> None:
        service = Service(lambda _: httpx.ConnectError("[Errno 111] Connection refused"))
        assert service.run("list") == 6
        assert service.pauses == []
        (line,) = capsys.readouterr().err.splitlines()
        assert "http://service does not answer (Connection refused)" in line

    @pytest.mark.parametrize(
        ("status", "arguments"),
        [(200, ["get", "1"]), (200, ["list"]), (200, ["watch", "1"]), (201, ["submit", "-m", "m", "x"]),
         (200, ["cancel", "1"]), (200, ["trigger", "1"]), (404, ["get", "1"])],
    )  # fmt: skip
    def test_what_is_not_pressroom_is_said(
        self, status: int, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        played = Service(lambda _: httpx.Response(status, text="data: <html>\n"))
        assert played.run(*arguments) == (4 if status == 404 else 2)
        assert f"answered {status}, and not as Pressroom does" in capsys.readouterr().err

    def test_an_answer_that_nobody_foresaw_is_one_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert always(200, {"who": "another service"}).run("get", "1") == 70
        (line,) = capsys.readouterr().err.splitlines()
        assert "KeyError: 'usage' (cli/show.py, line " in line

    @pytest.mark.parametrize(("ended", "code"), [(TASK, 0), (FAILED, 1)])
    def test_a_task_waited_for_decides(self, ended: dict[str, object], code: int) -> None:
        def answer(request: httpx.Request) -> httpx.Response:
            if request.url.path.endswith("/events"):
                return httpx.Response(200, content=events(("end", {"status": ended["status"]})))
            return httpx.Response(200, json=ended)

        assert Service(answer).run("submit", "--wait", "-m", "m", "你好") == code

    def test_of_several_the_first_problem_counts(self) -> None:
        def answer(request: httpx.Request) -> httpx.Response:
            gone = "/2/" in request.url.path
            return httpx.Response(409 if gone else 200, json={"message": "has ended"} if gone else TASK)

        service = Service(answer)
        assert service.run("cancel", "1", "2", "3") == 5
        assert len(service.calls) == 3


class TestPatience:
    def test_retry_after_is_heeded(self) -> None:
        answers = [
            httpx.Response(503, json={"message": "away."}, headers={"Retry-After": "7"}),
            httpx.Response(429, json={"message": "slowly."}, headers={"Retry-After": "2"}),
            httpx.Response(200, json=TASK),
        ]
        service = Service(lambda _: answers.pop(0))
        assert service.run("get", "7") == 0
        assert service.pauses == [7, 2]

    def test_but_no_longer_than_patience_lasts(self, capsys: pytest.CaptureFixture[str]) -> None:
        service = always(503, {"message": "away."}, **{"Retry-After": "61"})
        assert service.run("get", "7") == 6
        assert service.pauses == []
        assert "waited as long as --patience 60 allows" in capsys.readouterr().err

    def test_what_may_have_happened_is_not_asked_for_again(self) -> None:
        answers: list[httpx.Response | Exception] = [httpx.Response(200, json=TASK), httpx.ReadError("cut")]
        service = Service(lambda _: answers.pop(0))
        assert service.run("cancel", "1", "2") == 6
        assert len(service.calls) == 2

    def test_with_an_idempotency_key_it_is(self) -> None:
        answers: list[httpx.Response | Exception] = [httpx.Response(201, json=TASK), httpx.ReadError("cut")]
        answers += [httpx.Response(200, json=TASK)]
        service = Service(lambda _: answers.pop(0))
        client = service.client()
        client.create("/x", {}, "k")
        assert client.create("/x", {}, "k") == (TASK, False)

    def test_a_proxy_with_nobody_behind_it_is_waited_for(self) -> None:
        answers = [httpx.Response(status, text="<html>") for status in (502, 504, 503)]
        service = Service(lambda _: answers.pop(0) if answers else httpx.Response(201, json=TASK))
        assert service.run("submit", "-m", "m", "x") == 0
        assert service.pauses == [0.5, 1.0, 2.0]

    def test_but_not_to_ask_again_for_what_may_have_happened(self, capsys: pytest.CaptureFixture[str]) -> None:
        service = Service(lambda _: httpx.Response(502, text="<html>"))
        assert service.run("cancel", "1") == 6
        assert len(service.calls) == 1
        assert "does it run behind its proxy?" in capsys.readouterr().err

    def test_a_stream_that_breaks_is_taken_up_where_it_was(self) -> None:
        pieces = [b'id: 5\nevent: state\ndata: {"a": 1}\n\n', b'event: end\ndata: {"status": "COMPLETED"}\n\n']
        service = Service(lambda _: httpx.Response(200, content=pieces.pop(0)))
        assert [event.kind for event in service.client().follow("/e")] == ["state", "end"]
        assert [call.headers.get("Last-Event-ID") for call in service.calls] == [None, "5"]


class TestPlaces:
    def test_the_environment_comes_before_dotenv(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path(".env").write_text("PRESSROOM_URL=http://there:1\nPRESSROOM_API_KEY=from-file-0123\n")
        assert connection.find(None, None) == ("http://there:1", "from-file-0123")
        monkeypatch.setenv("PRESSROOM_URL", "https://env")
        assert connection.find(None, None).url == "https://env"
        assert connection.find("http://option/", None).url == "http://option"

    def test_a_dotenv_cannot_send_the_key_of_the_environment_elsewhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path(".env").write_text("PRESSROOM_URL=http://thief\n")
        monkeypatch.setenv("PRESSROOM_API_KEY", "mine-0123456789")
        with pytest.raises(Problem, match="so must the key itself") as caught:
            connection.find(None, None)
        assert "mine" not in str(caught.value)
        assert connection.find("https://own", None) == ("https://own", "mine-0123456789")

    @pytest.mark.parametrize("named_by", [".env", "environment", "option"])
    def test_nor_the_content_of_a_file(self, named_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        secret = tmp_path / "token"
        secret.write_text("mine-0123456789")
        line = f"PRESSROOM_API_KEY_FILE={secret}\n" if named_by == ".env" else ""
        Path(".env").write_text(f"PRESSROOM_URL=http://thief\n{line}")
        if named_by == "environment":
            monkeypatch.setenv("PRESSROOM_API_KEY_FILE", str(secret))
        with pytest.raises(Problem, match="so must the key itself"):
            connection.find(None, str(secret) if named_by == "option" else None)

    def test_nor_another_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SECRET", "mine-0123456789")
        Path(".env").write_text("PRESSROOM_URL=http://thief/${SECRET}\nPRESSROOM_API_KEY=${SECRET}\n")
        assert "mine" not in str(connection.find(None, None))

    def test_nor_turn_this_machine_into_another(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PRESSROOM_API_KEY", "mine-0123456789")
        Path(".env").write_text("PORT=1@thief\n")
        with pytest.raises(Problem, match="PORT"):
            connection.find(None, None)

    def test_a_file_that_a_dotenv_names_is_for_the_service_that_we_name(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text("secret-0123456789\n")
        Path(".env").write_text(f"PRESSROOM_API_KEY_FILE={tmp_path / 'key'}\nPORT=9001\n")
        assert connection.find(None, None) == ("http://127.0.0.1:9001", "secret-0123456789")

    def test_this_machines_port_is_the_default(self) -> None:
        assert connection.find(None, None) == ("http://127.0.0.1:8000", None)
        Path(".env").write_text("PORT=9001\n")
        assert connection.find(None, None).url == "http://127.0.0.1:9001"

    def test_a_key_comes_from_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text("secret-0123456789\n")
        assert connection.find("http://x", str(tmp_path / "key")).key == "secret-0123456789"
        with pytest.raises(Problem, match="cannot be read"):
            connection.find("http://x", str(tmp_path / "none"))

    def test_no_option_takes_the_key_itself(self) -> None:
        options = {name for param in cli.params for name in param.opts}
        assert options == {"--url", "--key-file", "--patience", "--version"}


class TestStreams:
    def test_lines_end_at_line_feeds_only(self) -> None:
        said = 'data: "a\u2028b\u2029c\u0085d"\n\ndata: "é"\n'.encode()
        whole = ['data: "a\u2028b\u2029c\u0085d"', "", 'data: "é"']
        assert list(lines_of([said])) == whole
        assert list(lines_of(said[at : at + 1] for at in range(len(said)))) == whole

    def test_a_text_with_line_separators_is_shown(self, capsys: pytest.CaptureFixture[str]) -> None:
        text = "one\u2028two\u0085three"

        def answer(request: httpx.Request) -> httpx.Response:
            if request.url.path.endswith("/events"):
                return httpx.Response(200, content=events(("text", {"offset": 0, "text": text}), ("end", {})))
            return httpx.Response(200, json={**TASK, "result": {"text": text}})

        assert Service(answer).run("submit", "--wait", "-m", "m", "x") == 0
        assert capsys.readouterr().out == text + "\n"

    def test_a_task_whose_service_goes_away_can_be_found_again(self, capsys: pytest.CaptureFixture[str]) -> None:
        answers: list[httpx.Response | Exception] = [httpx.Response(201, json=TASK)]
        service = Service(lambda _: answers.pop(0) if answers else httpx.Response(500, json={"message": "broken"}))
        assert service.run("submit", "--wait", "-m", "m", "x") == 6
        assert "task 7 goes on; pressroom watch 7 shows it" in capsys.readouterr().err


class TestWhatIsPrinted:
    def test_piped_text_is_the_answer_alone(self, capsys: pytest.CaptureFixture[str]) -> None:
        def answer(request: httpx.Request) -> httpx.Response:
            told = events(("text", {"offset": 0, "text": "世"}), ("text", {"offset": 0, "text": "世界"}), ("end", {}))
            return httpx.Response(200, **({"content": told} if "events" in request.url.path else {"json": TASK}))

        assert Service(answer).run("submit", "-w", "-m", "m", "你好") == 0
        assert capsys.readouterr().out == "世界\n"

    def test_json_is_what_the_service_said(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert always(200, TASK).run("get", "7", "--json") == 0
        assert orjson.loads(capsys.readouterr().out) == TASK

    def test_lists_follow_cursors_up_to_the_limit(self, capsys: pytest.CaptureFixture[str]) -> None:
        def answer(request: httpx.Request) -> httpx.Response:
            size = min(int(request.url.params["limit"]), 2)
            link = f'<http://service/api/v1/tasks?cursor=c{len(service.calls)}&status=FAILED>; rel="next"'
            return httpx.Response(200, json=[TASK] * size, headers={"Link": link})

        service = Service(answer)
        assert service.run("list", "--status", "FAILED", "-n", "5", "--json") == 0
        assert len(orjson.loads(capsys.readouterr().out)) == 5
        assert [call.url.params.get("cursor") for call in service.calls] == [None, "c1", "c2"]

    def test_a_failed_task_says_why(self, capsys: pytest.CaptureFixture[str]) -> None:
        always(200, FAILED).run("get", "7")
        assert "timeout: too late" in capsys.readouterr().out

    def test_what_is_wrong_names_the_field(self, capsys: pytest.CaptureFixture[str]) -> None:
        wrong = {"message": "no", "errors": {"json": {"input": {"topic": ["Missing data."]}}}}
        assert always(422, wrong).run("submit", "-m", "m", "x") == 2
        assert "input.topic: Missing data." in capsys.readouterr().err

    def test_chinese_takes_two_columns_and_control_characters_none(self) -> None:
        assert show.width("a你") == 3
        assert show.cut("你好世界你好世界", 9) == "你好世界…"
        assert show.printable("a\x1b[31mb\r\n") == "a�[31mb�\n"


class TestSubmitting:
    def test_a_prompt_comes_from_a_file_too(self, tmp_path: Path) -> None:
        (tmp_path / "p.txt").write_text("请介绍\n")
        service = always(201, TASK)
        assert service.run("submit", "-m", "m", "-f", str(tmp_path / "p.txt")) == 0
        assert service.bodies("/api/v1/tasks") == [{"model": "m", "prompt": "请介绍"}]
        assert service.calls[0].headers["Idempotency-Key"]

    def test_other_types_take_an_input(self) -> None:
        service = always(201, TASK)
        assert service.run("submit", "--type", "embedding", "--input", '{"texts": ["a"]}') == 0
        assert service.bodies("/api/v1/tasks") == [{"task_type": "embedding", "input": {"texts": ["a"]}}]

    def test_the_variable_names_the_model_of_prompts_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PRESSROOM_MODEL", "chat")
        service = always(201, TASK)
        for arguments in (["x"], ["--type", "embedding", "--input", "{}"], ["--type", "embedding", "-m", "own"]):
            assert service.run("submit", *arguments) == 0
        assert [body.get("model") for body in service.bodies("/api/v1/tasks")] == ["chat", None, "own"]

    def test_lines_end_as_they_do_here(self, tmp_path: Path) -> None:
        (tmp_path / "p.txt").write_bytes(b"one\r\ntwo\r\n")
        service = always(201, TASK)
        assert service.run("submit", "-m", "m", "-f", str(tmp_path / "p.txt")) == 0
        assert service.bodies("/api/v1/tasks")[0]["prompt"] == "one\ntwo"

    @pytest.mark.parametrize(
        "wrong",
        [
            ["x"],
            ["-m", "m", "--input", "[]"],
            ["-m", "m", "-f", "none"],
            ["-m", "m", "-f", "a", "x"],
            ["-m", "m", "--key", "文章-1", "x"],
            ["-m", "m", "--key", "a\nb", "x"],
            ["-m", os.fsdecode(b"\xff"), "x"],
            ["-m", "m", "--input", '{"a": ' + "[" * 300 + "]" * 300 + "}", "x"],
        ],
    )
    def test_what_cannot_be_submitted_asks_nothing(self, wrong: list[str]) -> None:
        service = always(201, TASK)
        assert service.run("submit", *wrong) == 2
        assert service.calls == []

    def test_a_prompt_that_is_no_text_is_refused(self) -> None:
        assert always(201, TASK).run("submit", "-m", "m", os.fsdecode(b"\xff")) == 2


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_is_printed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "_PRESSROOM_COMPLETE" in capsys.readouterr().out
