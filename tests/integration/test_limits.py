"""Callers that ask too often, or while too much waits, are told so, and when to come back."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
import structlog
from flask import Flask
from flask.testing import FlaskClient

from api import create_app, services
from jobs.setting_values import ApiKey
from jobs.settings import Settings
from tests.support.access import log_in
from tests.support.closing import close

TASK = {"prompt": "p", "model": "m"}
KEYS = tuple(ApiKey(name, f"{name}-0123456789abcdef", "admin") for name in ("ada", "bob"))
BACKUP = 1  # the built-in schedule

Make = Callable[..., FlaskClient]


@pytest.fixture
def make(configured: Settings) -> Iterator[Make]:
    """Makes a client of an app with other settings."""
    made: list[Flask] = []

    def client(**changes: Any) -> FlaskClient:
        made.append(create_app(replace(configured, **changes)))
        return made[-1].test_client()

    yield client
    for app in made:
        close(app)


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}-0123456789abcdef"}


def test_beyond_the_limit_callers_are_refused_and_told_when_to_come_back(make: Make, redis_client: redis.Redis) -> None:
    client = make(rate_limit_default="3/minute")
    for left in (2, 1, 0):
        answer = client.get("/api/v1/tasks")
        assert answer.status_code == 200
        assert answer.headers["RateLimit-Policy"] == '"default";q=3;w=60'
        assert answer.headers["RateLimit"].startswith(f'"default";r={left};t=')
    refused = client.post("/api/v1/tasks", json=TASK)
    assert refused.status_code == 429
    assert refused.get_json()["status"] == "Too Many Requests"
    assert "3 per 1 minute" in refused.get_json()["message"]
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.headers["RateLimit"].startswith('"default";r=0;t=')
    assert client.get("/nowhere").status_code == 429
    keys = list(redis_client.scan_iter("pressroom:limits*"))
    assert keys
    assert all(0 < redis_client.ttl(key) <= 120 for key in keys)


def test_who_is_far_from_the_limit_is_counted_in_few_steps_and_exactly(
    make: Make, redis_client: redis.Redis
) -> None:  # fmt: skip
    here, there = make(rate_limit_default="300/minute"), make(rate_limit_default="300/minute")
    before = redis_client.info("commandstats")["cmdstat_evalsha"]["calls"]
    for asked in range(40):
        assert here.get("/nowhere").headers["RateLimit"].startswith(f'"default";r={299 - asked};t=')
    assert redis_client.info("commandstats")["cmdstat_evalsha"]["calls"] - before < 20
    answers = [there.get("/nowhere").status_code for _ in range(270)]
    # What one process has not yet told the others is a hundredth of what was left.
    assert 260 <= answers.count(404) <= 263
    assert answers[263:] == [429] * 7


@pytest.mark.parametrize("path", ["/api/v1/health", "/health", "/metrics", "/static/login.css"])
def test_who_only_looks_whether_it_lives_is_not_limited(path: str, make: Make) -> None:
    client = make(rate_limit_default="1/minute")
    for _ in range(3):
        with client.get(path) as answer:
            assert answer.status_code in (200, 503)
            assert "RateLimit" not in answer.headers


def test_a_batch_is_one_request(make: Make) -> None:
    client = make(rate_limit_default="2/minute")
    answer = client.post("/api/v1/tasks/batch", json={"tasks": [TASK] * 10})
    assert (answer.status_code, answer.headers["RateLimit"][:14]) == (201, '"default";r=1;')


def test_days_are_made_less_often_than_read(make: Make) -> None:
    client = make(rate_limit_generate="1/minute")
    day = "/api/v1/daily-life?target_date=2026-11-23"
    made = client.post(day)
    assert made.status_code == 202
    assert made.headers["RateLimit-Policy"] == '"default";q=600;w=60, "generate";q=1;w=60'
    assert client.post(day).status_code == 429
    assert client.get(day).status_code == 404


def test_empty_settings_limit_nothing(make: Make) -> None:
    client = make(rate_limit_default="", rate_limit_generate="")
    assert "RateLimit" not in client.get("/api/v1/tasks").headers


def test_each_key_has_its_own_count(make: Make) -> None:
    client = make(rate_limit_default="1/minute", api_keys=KEYS)
    assert client.get("/api/v1/tasks", headers=bearer("ada")).status_code == 200
    assert client.get("/api/v1/tasks", headers=bearer("ada")).status_code == 429
    assert client.get("/api/v1/tasks", headers=bearer("bob")).status_code == 200


@pytest.mark.parametrize(("proxies", "second"), [(0, 429), (1, 200)])
def test_proxies_are_believed_only_when_told(proxies: int, second: int, make: Make) -> None:
    client = make(rate_limit_default="1/minute", trusted_proxies=proxies)
    assert client.get("/api/v1/tasks", headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 200
    assert client.get("/api/v1/tasks", headers={"X-Forwarded-For": "192.0.2.2"}).status_code == second
    # What the caller adds in front changes nothing.
    forged = {"X-Forwarded-For": "192.0.2.9, 192.0.2.1"}
    assert client.get("/api/v1/tasks", headers=forged).status_code == 429


def test_one_client_has_all_addresses_of_an_ipv6_network(make: Make) -> None:
    client = make(rate_limit_default="1/minute", trusted_proxies=1)
    assert client.get("/api/v1/tasks", headers={"X-Forwarded-For": "2001:db8::1"}).status_code == 200
    assert client.get("/api/v1/tasks", headers={"X-Forwarded-For": "2001:db8::2"}).status_code == 429
    assert client.get("/api/v1/tasks", headers={"X-Forwarded-For": "2001:db8:1::1"}).status_code == 200


def test_who_guesses_keys_is_soon_refused_even_with_a_right_one(make: Make) -> None:
    client = make(api_keys=KEYS, trusted_proxies=1)
    guessing = {"X-Forwarded-For": "192.0.2.1"}
    paths = ["/api/v1/tasks", "/", "/nowhere", "/rq/"]
    for guess in range(30):
        wrong = {**guessing, "X-API-Key": f"guess-{guess}"}
        assert client.get(paths[guess % 4], headers=wrong).status_code == 401
    for headers in (guessing, {**guessing, **bearer("ada")}):
        refused = client.get("/api/v1/tasks", headers=headers)
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert client.get("/api/v1/health", headers=guessing).status_code == 200
    assert client.get("/api/v1/tasks", headers={"X-Forwarded-For": "192.0.2.2", **bearer("ada")}).status_code == 200


def test_guesses_sent_to_pages_are_refused_and_counted_as_well(make: Make) -> None:
    client = make(api_keys=KEYS)
    for guess in range(30):
        headers = {**bearer(f"wrong-{guess:010}"), "Accept": "text/html"}
        assert client.get("/nowhere" if guess % 2 else "/tasks", headers=headers).status_code == 401
    assert client.get("/api/v1/tasks", headers=bearer("ada")).status_code == 429


def test_requests_without_any_key_shut_nobody_out(make: Make) -> None:
    client = make(api_keys=KEYS)
    elsewhere = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    for _ in range(31):
        assert client.get("/api/v1/tasks", headers=elsewhere).status_code == 401
    assert client.get("/api/v1/tasks", headers=bearer("ada")).status_code == 200


def test_guesses_at_the_login_count_alike(make: Make) -> None:
    client = make(api_keys=KEYS)
    for _ in range(30):
        assert log_in(client, "a wrong key").status_code == 401
    assert log_in(client, KEYS[0].secret).status_code == 429


def test_without_redis_each_process_counts_for_itself_and_says_so_once(make: Make) -> None:
    client = make(rate_limit_default="3/minute", api_keys=KEYS, redis_url="redis://127.0.0.1:1/0")
    with structlog.testing.capture_logs() as logs:
        answers = [client.get("/api/v1/tasks", headers=bearer("ada")).status_code for _ in range(4)]
        guesses = [client.get("/api/v1/tasks", headers=bearer("eve")).status_code for _ in range(31)]
    assert answers == [200, 200, 200, 429]
    assert guesses == [401] * 30 + [429]
    assert len([line for line in logs if "counts requests for itself" in line["event"]]) == 1


class TestWhenTooMuchWaits:
    def test_submissions_are_refused_with_503(self, make: Make) -> None:
        client = make(max_pending=2)
        first = client.post("/api/v1/tasks", json=TASK, headers={"Idempotency-Key": "k"})
        assert first.status_code == 201
        assert client.post("/api/v1/tasks/batch", json={"tasks": [TASK] * 2}).status_code == 503
        assert client.post("/api/v1/tasks", json=TASK).status_code == 201
        day = "/api/v1/daily-life?target_date=2026-11-23"
        memory = {"topic": "t", "conversation_history": [{"role": "a", "content": "b"}]}
        for refused in (
            client.post("/api/v1/tasks", json=TASK),
            client.post("/api/v1/tasks/batch", json={"tasks": [TASK]}),
            client.post("/api/v1/memorize", json=memory),
            client.post(day),
        ):
            assert refused.status_code == 503
            assert int(refused.headers["Retry-After"]) > 0
            assert "2 tasks are waiting" in refused.get_json()["message"]
        # What was there already is given back, and tried again.
        again = client.post("/api/v1/tasks", json=TASK, headers={"Idempotency-Key": "k"})
        assert (again.status_code, again.get_json()["id"]) == (200, first.get_json()["id"])
        path = f"/api/v1/tasks/{first.get_json()['id']}"
        assert client.post(f"{path}/cancel").status_code == 200
        assert client.post(f"{path}/retry").status_code == 200

    def test_firings_fail_with_their_reason_and_upkeep_goes_on(self, make: Make) -> None:
        client = make(max_pending=1)
        tools = services_of(client)
        tools.schedules.add_builtin()
        wanted = {"name": "s", "task_type": "submit_task", "interval": 1, "interval_unit": "hours", "params": TASK}
        schedule = client.post("/api/v1/scheduler/tasks", json=wanted).get_json()
        assert client.post("/api/v1/tasks", json=TASK).status_code == 201
        assert client.post(f"/api/v1/scheduler/tasks/{schedule['id']}/trigger").status_code == 503
        execution_id = tools.schedules.by_hand(schedule["id"])
        tools.firer.fire([execution_id])
        execution = client.get(f"/api/v1/scheduler/executions/{execution_id}").get_json()
        assert (execution["status"], execution["error"]["code"]) == ("FAILED", "too_many_pending")
        upkeep = client.post(f"/api/v1/scheduler/tasks/{BACKUP}/trigger")
        assert (upkeep.status_code, upkeep.get_json()["status"]) == (201, "COMPLETED")


def services_of(client: FlaskClient) -> services.Services:
    with client.application.app_context():
        return services.get()
