"""What Prometheus reads, and that the dashboard for Grafana asks for nothing else."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from api import create_app, services
from jobs import statistics
from jobs.errors import TaskError
from jobs.setting_values import ApiKey
from jobs.settings import Settings
from jobs.store.database import Database
from tests.support import hand

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "deploy/grafana/pressroom.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
RULES = [
    rule["expr"]
    for group in yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
    if rule["alert"] != "PressroomDown"  # of what Prometheus itself knows
]
(SCALING,) = yaml.safe_load((ROOT / "deploy/kubernetes/keda/workers.yaml").read_text())["spec"]["triggers"]
USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(client: FlaskClient, **headers: str) -> Samples:
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(answer.get_data(as_text=True))
    samples = [sample for family in families for sample in family.samples]
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples), "a series comes twice"
    return found


def value(samples: Samples, name: str, **labels: Any) -> float:
    """The sum of the series that have these labels."""
    wanted = {(label, str(text)) for label, text in labels.items()}
    return sum(found for (known, had), found in samples.items() if known == name and wanted <= had)


@pytest.fixture
def client(configured: Settings, tmp_path: Path) -> Iterator[FlaskClient]:
    path = tmp_path / "providers.toml"
    path.write_text('[prices."m"]\ninput = 10000\noutput = 50000\n')
    app = create_app(replace(configured, providers_file=path))
    yield app.test_client()
    with app.app_context():
        services.get().database.close()
        services.get().doorbell.connection.close()


@pytest.fixture
def lived(client: FlaskClient, database: Database) -> FlaskClient:
    """A client of an installation in which everything that is measured has happened."""
    ids = [client.post("/api/v1/tasks", json={"prompt": "p", "model": "m"}).get_json()["id"] for _ in range(5)]
    hand.finish(database, *ids[:2], usage=USAGE)
    hand.finish(database, ids[2], status="FAILED", error=TaskError("provider_error", "no"))
    hand.claim(database, hand.register(database), [ids[3]])
    scheduler = {"kind": "scheduler", "name": "s", "host": "h", "pid": 1, "queues": [], "capacity": 0}
    database.all("register_worker", scheduler)
    return client


def test_all_about_tasks(lived: FlaskClient) -> None:
    seen = scrape(lived)
    ours = {"task_type": "text_generation"}
    assert value(seen, "pressroom_tasks_ended_total", status="COMPLETED", **ours) == 2
    assert value(seen, "pressroom_tasks_ended_total", status="FAILED", **ours) == 1
    assert value(seen, "pressroom_task_attempts_total", **ours) == 3
    assert value(seen, "pressroom_task_errors_total", code="provider_error", **ours) == 1
    for name in ("pressroom_task_waiting_seconds", "pressroom_task_running_seconds"):
        assert value(seen, f"{name}_count", **ours) == value(seen, f"{name}_bucket", le="+Inf", **ours) == 3
        assert value(seen, f"{name}_bucket", le="4096.0", **ours) == 3
    assert value(seen, "pressroom_tasks_running", queue="default", **ours) == 1
    assert value(seen, "pressroom_queue_depth", queue="default") == 1
    assert value(seen, "pressroom_tokens_total", model="m", kind="prompt") == 200
    assert value(seen, "pressroom_tokens_total", model="m", kind="completion") == 40
    assert value(seen, "pressroom_cost", model="m", currency="USD") == 4.0
    assert value(seen, "pressroom_token_price", model="m", kind="completion") == 50000
    assert value(seen, "pressroom_workers") == 3
    assert value(seen, "pressroom_worker_slots") == 27
    assert value(seen, "pressroom_schedulers") == 1
    assert value(seen, "pressroom_scheduler_lag_seconds") == 0
    assert value(seen, "pressroom_up", part="database") == value(seen, "pressroom_up", part="redis") == 1


def test_counters_never_go_back(lived: FlaskClient, database: Database) -> None:
    def counters() -> Samples:
        ends = ("_total", "_bucket", "_count", "_sum")
        return {key: n for key, n in scrape(lived).items() if key[0].endswith(ends) and "http" not in key[0]}

    before = counters()
    assert len(before) > 20
    statistics.fold(database)
    assert counters() == before
    with database.transaction() as session:
        session.run("DELETE FROM tasks")
        session.all("forget_statistics", {"days": -1})  # that is everything
    assert database.all("types_since", {"since": "2000-01-01"}) == []
    assert counters() == before


def test_requests_are_timed_by_route_method_and_status(client: FlaskClient) -> None:
    name = "pressroom_http_request_duration_seconds_count"
    before = scrape(client)
    client.get("/api/v1/tasks/1")
    client.get("/api/v1/tasks/2")
    client.get("/nowhere/1")
    client.delete("/api/v1/tasks")
    client.open("/api/v1/health", method="BREW")
    after = scrape(client)
    counted = {
        dict(labels)["endpoint"] + " " + dict(labels)["method"] + " " + dict(labels)["status"]: n - before.get(key, 0)
        for key, n in after.items()
        if (labels := key[1]) and key[0] == name and n != before.get(key, 0)
    }
    assert counted == {
        "/api/v1/tasks/<id:task_id> GET 404": 2,
        "none GET 404": 1,
        "none DELETE 405": 1,
        "none other 405": 1,
        "/metrics GET 200": 1,
    }
    assert value(after, "pressroom_http_requests_in_flight") == 1


def test_without_its_servers_it_says_that_they_are_away(configured: Settings) -> None:
    away = replace(configured, database_url="postgresql://127.0.0.1:1/x", redis_url="redis://127.0.0.1:1/0")
    key = ApiKey("prometheus", "p" * 20, "read")
    app = create_app(replace(away, api_keys=(key,)))
    seen = scrape(app.test_client(), Authorization=f"Bearer {key.secret}")
    assert value(seen, "pressroom_up", part="database") == value(seen, "pressroom_up", part="redis") == 0
    assert ("pressroom_up", frozenset({("part", "database")})) in seen
    assert value(seen, "pressroom_http_requests_in_flight") == 1
    with app.app_context():
        services.get().database.close()


def test_a_key_that_may_look_is_enough(configured: Settings) -> None:
    key = ApiKey("prometheus", "p" * 20, "read")
    app = create_app(replace(configured, api_keys=(key,)))
    client = app.test_client()
    assert client.get("/metrics").status_code == 401
    scrape(client, Authorization=f"Bearer {key.secret}")
    with app.app_context():
        services.get().database.close()


def test_the_dashboard_asks_only_for_what_there_is(lived: FlaskClient) -> None:
    series: dict[str, set[str]] = {}
    for name, labels in scrape(lived):
        series.setdefault(name, set()).update(label for label, _ in labels)

    def labels_of(expression: Any) -> set[str]:
        """The labels that are there below it; fails on names that are nowhere."""
        known: set[str] = set()

        def visit(part: Any) -> bool:
            if isinstance(part, promql_parser.VectorSelector):
                assert part.name in series, f"{part.name} is not exported"
                asked = {matcher.name for matcher in part.matchers.matchers}
                assert asked <= series[part.name], f"{part.name} has no {asked - series[part.name]}"
                known.update(series[part.name])
            return True

        promql_parser.walk(expression, visit)
        return known

    def check(part: Any) -> bool:
        if isinstance(part, promql_parser.AggregateExpr) and part.modifier:
            there = labels_of(part.expr)
            assert set(part.modifier.labels) <= there, f"{set(part.modifier.labels) - there} in {part}"
        return True

    assert len(QUERIES) > 20
    for query in (*QUERIES, *RULES, SCALING["metadata"]["query"]):
        expression = promql_parser.parse(query.replace("$__rate_interval", "5m"))
        assert labels_of(expression) is not None
        promql_parser.walk(expression, check)


def test_the_dashboard_shows_all_that_there_is(lived: FlaskClient) -> None:
    everything = " ".join(QUERIES)
    families = text_string_to_metric_families(lived.get("/metrics").get_data(as_text=True))
    names = {family.name for family in families} - {"pressroom_schedulers"}
    assert {name for name in names if name not in everything} == set()
