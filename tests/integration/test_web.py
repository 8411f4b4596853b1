"""What surrounds the resources: errors, ids, keys, health, documentation, dashboard."""

import pickle
from dataclasses import replace
from typing import Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

from api import create_app, services
from jobs.setting_values import ApiKey
from jobs.settings import Settings
from jobs.store.database import Database

TASK = {"prompt": "p", "model": "m"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("get", "/nope", 404),
        ("get", "/api/v1/nope", 404),
        ("post", "/api/v1/health", 405),
        ("delete", "/api/v1/tasks", 405),
        ("get", "/docs/assets/../../etc/passwd", 404),
    ],
)
def test_every_error_is_json_with_a_message(method: str, path: str, status: int, client: FlaskClient) -> None:
    answer = getattr(client, method)(path)
    assert answer.status_code == status
    assert answer.mimetype == "application/json"
    body = answer.get_json()
    assert body["code"] == status
    assert body["status"]
    assert body["message"]


def test_an_unknown_path_is_told_plainly(client: FlaskClient) -> None:
    assert client.get("/nope").get_json()["message"] == "There is no such page."


def test_a_bug_is_a_500_without_its_details(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_self: Any, _task_id: int) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("jobs.manage.Manager.get", broken)
    answer = client.get("/api/v1/tasks/1")
    assert answer.status_code == 500
    assert answer.get_json()["code"] == 500
    assert "secret detail" not in answer.get_data(as_text=True)


def test_request_ids_come_back_and_are_made_where_missing(client: FlaskClient) -> None:
    assert client.get("/api/v1/health", headers={"X-Request-ID": "mine-1"}).headers["X-Request-ID"] == "mine-1"
    made = {client.get("/nope").headers["X-Request-ID"] for _ in range(2)}
    assert len(made) == 2
    odd = client.get("/api/v1/health", headers={"X-Request-ID": "x" * 500}).headers["X-Request-ID"]
    assert odd != "x" * 500


def test_times_are_utc_whatever_the_databases_zone(configured: Settings, database: Database) -> None:
    with database.transaction() as session:
        name = configured.database_url.rpartition("/")[2]
        session.run(f'ALTER DATABASE "{name}" SET timezone = "Asia/Shanghai"')
    app = create_app(configured)
    task = app.test_client().post("/api/v1/tasks", json=TASK).get_json()
    assert task["created_at"].endswith("Z")
    with app.app_context():
        services.get().database.close()


def test_liveness_touches_nothing(configured: Settings) -> None:
    away = replace(configured, database_url="postgresql://127.0.0.1:1/x", redis_url="redis://127.0.0.1:1/0")
    app = create_app(away)
    client = app.test_client()
    body = client.get("/api/v1/health").get_json()
    assert (body["status"], body["app_name"]) == ("healthy", "Pressroom")
    assert body["version"]
    assert body["timestamp"]
    answer = client.get("/health")
    assert answer.status_code == 503
    body = answer.get_json()
    assert (body["status"], body["database"], body["redis"]) == ("unhealthy", False, False)
    refused = client.post("/api/v1/tasks", json=TASK)
    assert refused.status_code == 503
    assert refused.headers["Retry-After"]
    with app.app_context():
        services.get().database.close()


def test_readiness_needs_a_scheduler_and_counts_workers(client: FlaskClient, database: Database) -> None:
    assert client.get("/health").status_code == 503
    for kind in ("scheduler", "worker", "worker"):
        process = {"kind": kind, "name": kind, "host": "h", "pid": 1, "queues": ["low"], "capacity": 7}
        database.all("register_worker", process)
    answer = client.get("/health")
    assert answer.status_code == 200
    body = answer.get_json()
    assert body.pop("timestamp")
    assert body == {
        "status": "healthy",
        "redis": True,
        "database": True,
        "workers": 2,
        "scheduler": True,
        "next_firing": None,
        "has_today_schedule": False,
    }
    workers = client.get("/health/workers").get_json()
    assert (workers["status"], workers["active_tasks"], len(workers["workers"])) == ("healthy", 0, 2)
    assert set(workers["workers"][0]) == {"name", "host", "queues", "running", "capacity", "last_heartbeat"}


class TestOtherSites:
    """While the service is open, a browser must not be led to use it for somebody else's page."""

    @pytest.mark.parametrize(
        "headers", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
    )
    def test_pages_of_other_sites_change_nothing(self, headers: dict[str, str], client: FlaskClient) -> None:
        task = client.post("/api/v1/tasks", json=TASK).get_json()
        assert client.post(f"/api/v1/tasks/{task['id']}/cancel", headers=headers).status_code == 403
        assert client.post("/api/v1/tasks", json=TASK, headers=headers).status_code == 403
        own = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
        assert client.post(f"/api/v1/tasks/{task['id']}/cancel", headers=own).status_code == 200

    @pytest.mark.parametrize(
        ("host", "status"),
        [("evil.example", 403), ("127.0.0.1:8000", 200), ("[::1]:8000", 200), ("localhost:8000", 200)],
    )
    def test_a_name_that_was_made_to_point_here_is_refused(self, host: str, status: int, client: FlaskClient) -> None:
        assert client.get("/api/v1/tasks", headers={"Host": host}).status_code == status


class TestKeys:
    """With keys configured, nobody without one gets in."""

    KEYS = tuple(ApiKey(scope, f"{scope}-secret-0123456", scope) for scope in ("read", "submit", "admin"))

    @pytest.fixture
    def locked(self, configured: Settings) -> Any:
        app = create_app(replace(configured, api_keys=self.KEYS))
        yield app.test_client()
        with app.app_context():
            services.get().database.close()

    @pytest.mark.parametrize(
        ("scope", "method", "path", "status"),
        [
            (None, "get", "/api/v1/tasks", 401),
            ("wrong", "get", "/api/v1/tasks", 401),
            ("read", "get", "/api/v1/tasks", 200),
            ("read", "post", "/api/v1/tasks", 403),
            ("submit", "post", "/api/v1/tasks", 201),
            ("read", "post", "/api/v1/memorize", 403),
            ("submit", "post", "/api/v1/memorize", 422),
            ("submit", "delete", "/api/v1/embeddings?collection=x", 403),
            ("admin", "delete", "/api/v1/embeddings?collection=x", 200),
            ("submit", "get", "/rq/", 403),
            ("admin", "get", "/rq/", 200),
            ("admin", "post", "/api/v1/tasks", 201),
            (None, "get", "/", 401),
            (None, "get", "/openapi.json", 401),
            (None, "get", "/nope", 401),
            (None, "get", "/api/v1/health", 200),
        ],
    )
    def test_scopes(self, scope: str | None, method: str, path: str, status: int, locked: FlaskClient) -> None:
        headers = {"Authorization": f"Bearer {scope}-secret-0123456"} if scope else {}
        options: dict[str, Any] = {"json": TASK} if method == "post" else {}
        answer = getattr(locked, method)(path, headers=headers, **options)
        assert answer.status_code == status
        assert (status == 401) == ("WWW-Authenticate" in answer.headers)

    def test_basic_and_the_own_header_work_too(self, locked: FlaskClient) -> None:
        secret = "read-secret-0123456"
        assert locked.get("/api/v1/tasks", auth=("read", secret)).status_code == 200
        assert locked.get("/api/v1/tasks", headers={"X-API-Key": secret}).status_code == 200
        assert locked.get("/api/v1/tasks", auth=("read", "not-the-secret")).status_code == 401


class TestDocumentation:
    def test_the_document_has_every_route(self, app: Flask, client: FlaskClient) -> None:
        document = client.get("/openapi.json").get_json()
        assert document["openapi"] == "3.1.0"
        routes = {
            rule.rule.replace("<id:", "{").replace("<", "{").replace(">", "}")
            for rule in app.url_map.iter_rules()
            if rule.rule.startswith(("/api", "/health", "/metrics"))
        }
        assert routes == set(document["paths"])

    def test_the_pages_load_nothing_from_elsewhere(self, client: FlaskClient) -> None:
        for path in ("/docs", "/"):
            page = client.get(path, headers={"Accept": "text/html"})
            assert page.mimetype == "text/html"
            assert 'src="http' not in page.get_data(as_text=True)
            policy = page.headers["Content-Security-Policy"]
            assert "default-src 'self'" in policy
            assert "unsafe" not in policy
        for name in ("swagger-ui.css", "swagger-ui-bundle.js"):
            with client.get(f"/docs/assets/{name}") as asset:
                assert asset.status_code == 200

    def test_a_json_client_is_told_where_to_go(self, client: FlaskClient) -> None:
        body = client.get("/").get_json()
        assert body["name"] == "Pressroom"
        for place in ("docs", "openapi", "health", "tasks", "dashboard"):
            assert client.get(body[place]).status_code in (200, 503)


class TestDashboard:
    """rq-dashboard shows what is there, as text, and runs nothing."""

    def test_its_pages_and_data_load(self, client: FlaskClient) -> None:
        client.post("/api/v1/tasks", json={"prompt": "<script>alert(1)</script>", "model": "m"})
        for page in ("/rq/", "/rq/0/view/workers", "/rq/0/view/jobs", "/rq/0/view/jobs/default/queued/8/asc/1"):
            assert client.get(page).status_code == 200
        queues = client.get("/rq/0/data/queues.json").get_json()["queues"]
        assert [(queue["name"], queue["count"]) for queue in queues] == [("default", 1)]
        (job,) = client.get("/rq/0/data/jobs/default/queued/8/asc/1.json").get_json()["jobs"]
        task_id = client.get("/api/v1/tasks").get_json()[0]["id"]
        assert (job["id"], job["description"]) == (str(task_id), f"task {task_id}")
        assert client.get(f"/rq/0/view/job/{task_id}").status_code == 200
        shown = client.get(f"/rq/0/data/job/{task_id}.json")
        assert shown.get_json()["status"] == "queued"
        assert "<script" not in shown.get_data(as_text=True)

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("post", "/rq/job/1/delete"),
            ("post", "/rq/queue/default/queued/empty"),
            ("post", "/rq/queue/default/compact"),
            ("get", "/rq/requeue/default"),
            ("post", "/rq/requeue/default"),
        ],
    )
    def test_it_cannot_throw_work_away(
        self, method: str, path: str, client: FlaskClient, redis_client: "redis.Redis"
    ) -> None:
        client.post("/api/v1/tasks", json=TASK)
        assert getattr(client, method)(path).status_code == 405
        assert redis_client.llen("rq:queue:default") == 1

    @pytest.mark.parametrize(
        "path",
        [
            "/rq/0/view/job/999",
            "/rq/0/data/job/999.json",
            "/rq/5/",
            "/rq/0/data/jobs/default/nonsense/8/asc/1.json",
            "/rq/0/data/jobs/default/queued/0/asc/1.json",
            "/rq/0/data/jobs/default/queued/x/asc/1.json",
        ],
    )
    def test_what_it_does_not_find_is_404(self, path: str, client: FlaskClient) -> None:
        assert client.get(path).status_code == 404

    def test_its_requeue_button_is_an_explicit_retry(self, client: FlaskClient) -> None:
        task = client.post("/api/v1/tasks", json=TASK).get_json()
        assert client.post(f"/rq/job/{task['id']}/requeue").status_code == 409
        client.post(f"/api/v1/tasks/{task['id']}/cancel")
        assert client.post(f"/rq/job/{task['id']}/requeue").status_code == 200
        assert client.get(f"/api/v1/tasks/{task['id']}").get_json()["status"] == "PENDING"
        assert client.post("/rq/job/abc/requeue").status_code == 404

    def test_pickles_in_redis_are_not_read(self, client: FlaskClient) -> None:
        class Bomb:
            def __reduce__(self) -> Any:
                return (pytest.fail, ("a pickle was run",))

        raw = services.get().doorbell.connection
        raw.sadd("rq:queues", "rq:queue:default")
        raw.hset(
            "rq:job:99",
            mapping={
                "data": pickle.dumps(Bomb()),
                "meta": pickle.dumps(Bomb()),
                "created_at": "2026-01-01T00:00:00Z",
            },
        )
        raw.rpush("rq:queue:default", "99")
        assert client.get("/rq/0/data/jobs/default/queued/8/asc/1.json").status_code == 200
        client.get("/rq/0/data/job/99.json")
