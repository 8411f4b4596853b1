"""Secrets reach no log, no row and no answer, whatever fails."""

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.support.instance import ROOT, Instance, clean_environment, fresh_directory, running
from tests.support.model_server import Behaviour, ModelServer
from tests.support.receiver import Receiver
from tests.support.waiting import wait_until

# Each in a form that nothing but the settings, or its place, gives away.
SECRETS = {
    name: f"{name}zq{number}Wx7Vb9"
    for number, name in enumerate(
        ("apikey", "wrongkey", "llmkey", "llmpass", "deadkey", "deadpass", "hookpath", "calltoken"),
        start=11,
    )
}
PROMPT = "an unmistakable prompt"
PROVIDERS = """
[providers.dead]
base_url = "http://user:{deadpass}@127.0.0.1:1/v1"
api_key = "{deadkey}"
models = ["dead"]
"""


def found_in(text: str) -> list[str]:
    return [name for name, secret in SECRETS.items() if secret in text]


def rows(url: str) -> str:
    """Everything in the database."""
    with psycopg.connect(url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        return "\n".join(
            str(row[0])
            for (table,) in tables
            for row in connection.execute(f'SELECT to_jsonb(t)::text FROM "{table}" AS t')
        )


def answers(instance: Instance, paths: list[str]) -> str:
    return "\n".join(f"{answer.headers} {answer.text}" for answer in map(instance.http.get, paths))


def test_a_whole_instance_keeps_its_secrets() -> None:
    model, receiver = ModelServer(), Receiver()
    receiver.usual, receiver.answer = 500, SECRETS["calltoken"].encode()
    with fresh_directory() as directory, model.serving() as llm, receiver.serving() as hooks:
        providers = directory / "providers.toml"
        providers.write_text(PROVIDERS.format_map(SECRETS))
        settings = {
            "API_KEYS": f"boss:{SECRETS['apikey']}:admin",
            "LLM_BASE_URL": llm.replace("://", f"://user:{SECRETS['llmpass']}@"),
            "LLM_API_KEY": SECRETS["llmkey"],
            "PROVIDERS_FILE": providers,
            "ALERT_WEBHOOK_URL": f"http://127.0.0.1:1/services/{SECRETS['hookpath']}",
            "CALLBACK_ALLOWED_NETWORKS": "127.0.0.0/8",
            "HANDLER_MODULES": "tests.support.leaky_handlers",
            "LOG_DIR": directory / "logs",
            "LOG_FORMAT": "json",
        }
        with running(directory / "data", **settings) as instance:
            instance.http.headers["Authorization"] = f"Bearer {SECRETS['apikey']}"
            address = f"{hooks}/?token={SECRETS['calltoken']}"
            model.usual = Behaviour("echo", status=401)
            ids = [instance.submit(PROMPT, max_retries=0, callback_url=address)["id"]]
            instance.ended(ids[0])
            model.usual = Behaviour("echo", status=200)
            ids += [instance.submit(PROMPT, max_retries=0, model=name)["id"] for name in ("any", "dead")]
            for kind in ("coroutine", "thread", "process"):
                task = {"task_type": f"leak_in_{kind}", "input": {}}
                ids.append(instance.http.post("/api/v1/tasks", json=task).json()["id"])
            ids.append(
                instance.http.post("/api/v1/tasks", json={"task_type": "leak_on_purpose", "input": {}}).json()["id"]
            )
            codes = {instance.ended(task_id)["error"]["code"] for task_id in ids}
            assert codes == {"provider_error", "invalid_response", "provider_unreachable", "handler_error", "told"}
            wait_until(lambda: receiver.got, "it was called back")
            odd = {"X-Request-ID": SECRETS["apikey"], "Cookie": f"session={SECRETS['apikey']}"}
            for path in (f"/nowhere/{SECRETS['apikey']}", f"/api/v1/tasks?token={SECRETS['apikey']}"):
                answer = instance.http.get(path, headers=odd)
                assert answer.status_code in (404, 422)
                assert not found_in(f"{answer.headers}")
            wrong = instance.http.get("/api/v1/tasks", headers={"Authorization": f"Bearer {SECRETS['wrongkey']}"})
            assert wrong.status_code == 401
            wait_until(lambda: "alert not delivered" in instance.log(), "an alert was tried", 60)
            paths = ["/api/v1/tasks", "/api/v1/callbacks", "/api/v1/callbacks/1", "/api/v1/alerts", "/metrics", "/rq/"]
            paths += [f"/api/v1/tasks/{task_id}{what}" for task_id in ids for what in ("", "/events")]
            kept = answers(instance, paths) + rows(instance.database_url)
            # Addresses to call back are kept, and shown, as their callers gave them; nothing else of theirs is.
            assert address in kept
            assert not found_in(kept.replace(address, ""))
        log = instance.log()
        files = {path.name: path.read_text() for path in (directory / "logs").iterdir()}
    assert {"api.log", "worker.log", "scheduler.log"} <= files.keys()
    for text in (log, *files.values()):
        assert not found_in(text)
        assert PROMPT not in text
    for said in ("leaking", "headers", "warned of", "uncaught exception in a thread", "said [redacted]", "noted"):
        assert said in log


@pytest.mark.parametrize(
    ("module", "settings", "code"),
    [
        ("jobs.store.migrate", {"DATABASE_URL": "postgresql://user:{llmpass}@127.0.0.1:1/x"}, 1),
        ("jobs.store.migrate", {"DATABASE_URL": "postgresql://user:{llmpass}@127.0.0.1:1/x?nonsense={apikey}"}, 2),
        ("deploy.run", {"DATABASE_URL": "postgresql://user:{llmpass}@127.0.0.1:1/x"}, 1),
        ("deploy.run", {"DATABASE_URL": "mysql://user:{llmpass}@127.0.0.1/x", "API_KEYS": "boss-{apikey}"}, 2),
        ("deploy.run", {"CALLBACK_SECRET": "{apikey}", "REDIS_URL": "http://:{llmpass}@h"}, 2),
    ],
)
def test_nothing_is_told_by_what_cannot_start(
    module: str, settings: dict[str, str], code: int, tmp_path: Path
) -> None:  # fmt: skip
    given = {name: value.format_map(SECRETS) for name, value in settings.items()}
    ended = subprocess.run(
        [sys.executable, "-m", module], cwd=ROOT, env=clean_environment(DATA_DIR=tmp_path, PORT=1, **given),
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == code
    said = ended.stdout + ended.stderr
    assert said
    assert "Traceback" not in said
    assert not found_in(said)
