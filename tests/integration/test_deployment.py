"""The files in deploy/ name settings, routes, ports and commands that there are, and give processes time to end."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from flask.testing import FlaskClient
from marshmallow import ValidationError

from jobs.setting_values import api_keys
from jobs.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KINDS = ("web", "worker", "scheduler")
KNOWN = set(re.findall(r"^# ?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
PROCFILE: dict[str, str] = yaml.safe_load((ROOT / "Procfile").read_text())
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
SYSTEMD = {path.name: path.read_text() for path in (DEPLOY / "systemd").glob("*.service")}


def manifests(kind: str) -> dict[str, Any]:
    """The Kubernetes objects of a kind, by name without `pressroom-`."""
    found: Iterator[Any] = (
        manifest for path in DEPLOY.glob("kubernetes/*/*.yaml") for manifest in yaml.safe_load_all(path.read_text())
    )
    return {
        manifest["metadata"]["name"].removeprefix("pressroom-"): manifest["spec"]
        for manifest in found
        if manifest["kind"] == kind
    }


DEPLOYMENTS = {name: spec["template"]["spec"] for name, spec in manifests("Deployment").items()}
(KUSTOMIZED,) = yaml.safe_load((DEPLOY / "kubernetes/base/kustomization.yaml").read_text())["configMapGenerator"]


@pytest.mark.parametrize("path", [*DEPLOY.rglob("*.yaml"), *DEPLOY.rglob("*.yml")], ids=lambda path: path.name)
def test_it_is_yaml(path: Path) -> None:
    assert list(yaml.safe_load_all(path.read_text()))


@pytest.mark.parametrize(
    "names",
    [
        re.findall(r"^([A-Z_]+)=", (DEPLOY / "pressroom.env.example").read_text(), re.MULTILINE),
        re.findall(r"\b([A-Z_]+)=(?=\S)", DOCKERFILE.partition("FROM python")[2].rpartition("ENV")[2]),
        [name for unit in SYSTEMD.values() for name in re.findall(r"(?<=[ =])([A-Z_]+)=", unit)],
        [literal.partition("=")[0] for literal in KUSTOMIZED["literals"]],
        list(json.loads((ROOT / "app.json").read_text())["env"]),
    ],
    ids=["env", "image", "systemd", "kubernetes", "heroku"],
)
def test_settings_exist(names: list[str]) -> None:
    assert names
    assert {name for name in names if not re.match("PYTHON|PATH", name)} <= KNOWN


def test_every_process_is_started_as_the_procfile_says() -> None:
    assert set(PROCFILE) == {"release", *KINDS}
    image = " ".join(json.loads(DOCKERFILE.rpartition("CMD ")[2]))
    assert image == PROCFILE["web"]
    for kind, spec in DEPLOYMENTS.items():
        (container,) = spec["containers"]
        assert " ".join(container.get("command", image.split())) == PROCFILE[kind]
        assert [" ".join(first["command"]) for first in spec["initContainers"]] == [PROCFILE["release"]]
    for kind in KINDS:
        assert " ".join(COMPOSE[kind].get("command", image.split())) == PROCFILE[kind]
    assert " ".join(COMPOSE["migrate"]["command"]) == PROCFILE["release"]
    started = {
        re.findall(r"^ExecStart=/opt/pressroom/.venv/bin/(.*)$", unit, re.MULTILINE)[0] for unit in SYSTEMD.values()
    }
    assert started == set(PROCFILE.values())
    assert set(json.loads((ROOT / "app.json").read_text())["formation"]) == set(KINDS)


def test_the_image_has_all_rooms_and_the_command_line() -> None:
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    copied = dict(re.findall(r"^COPY (\w+)/ (\w+)/$", DOCKERFILE, re.MULTILINE))
    assert copied == {room: room for room in rooms - {"deploy"}}
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert rooms - {"deploy"} | {"deploy/*.py", "deploy/pressroom", "requirements.txt"} == sent
    assert "COPY deploy/*.py deploy/pressroom deploy/" in DOCKERFILE
    assert "ln -s /app/deploy/pressroom /usr/local/bin/pressroom" in DOCKERFILE


def test_the_command_line_takes_no_python_that_only_lies_beside_its_link(tmp_path: Path) -> None:
    (tmp_path / "pressroom").symlink_to(DEPLOY / "pressroom")
    (tmp_path / "python").write_text("#!/bin/sh\nexit 7\n")
    (tmp_path / "python").chmod(0o755)
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    said = subprocess.run(
        [tmp_path / "pressroom", "--version"], env={"PATH": path}, capture_output=True, text=True, check=True
    )
    assert said.stdout.startswith("pressroom ")


def test_ports_agree() -> None:
    (port,) = re.findall(r"EXPOSE (\d+)", DOCKERFILE)
    assert f"PORT={port}" in DOCKERFILE
    assert [published.rpartition(":")[2] for published in COMPOSE["web"]["ports"]] == [port]
    assert [name for name, service in COMPOSE.items() if "ports" in service] == ["web"], "nothing else is published"
    (container,) = DEPLOYMENTS["web"]["containers"]
    assert [opened["containerPort"] for opened in container["ports"]] == [int(port)]
    assert {rule["port"] for rule in manifests("NetworkPolicy")["web"]["ingress"][0]["ports"]} == {int(port)}
    assert f"server 127.0.0.1:{port};" in (DEPLOY / "nginx/pressroom.conf").read_text()


def test_probes_ask_for_what_there_is(client: FlaskClient) -> None:
    (container,) = DEPLOYMENTS["web"]["containers"]
    paths = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}
    paths |= set(re.findall(r"http://127.0.0.1:\d+(/[^']*)'", COMPOSE["web"]["healthcheck"]["test"][-1]))
    paths |= set(re.findall(r"location = (\S+)", (DEPLOY / "nginx/pressroom.conf").read_text()))
    paths |= {
        job["metrics_path"]
        for job in yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    }
    assert {path: client.get(path).status_code for path in paths} == {"/api/v1/health": 200, "/metrics": 200}


def test_a_proxy_gives_up_connections_before_the_web_process_does() -> None:
    (proxy,) = re.findall(r"^ +keepalive_timeout (\d+)s;", (DEPLOY / "nginx/pressroom.conf").read_text(), re.MULTILINE)
    (web,) = re.findall(r"^keepalive = (\d+)$", (DEPLOY / "gunicorn.conf.py").read_text(), re.MULTILINE)
    assert int(proxy) < int(web)


def test_dumps_can_be_written_where_they_outlive_their_container() -> None:
    assert {kind for kind in KINDS if COMPOSE[kind].get("volumes") == ["backups:/data/backups"]} == {"web", "worker"}
    assert "install --directory --owner pressroom --group pressroom /data/backups" in DOCKERFILE
    component = yaml.safe_load((DEPLOY / "kubernetes/backups/kustomization.yaml").read_text())
    volume, mount = (change["value"] for change in yaml.safe_load(component["patches"][0]["patch"]))
    assert mount == {"name": volume["name"], "mountPath": "/data/backups"}
    assert volume["persistentVolumeClaim"]["claimName"] == "pressroom-backups"
    claim = yaml.safe_load((DEPLOY / "kubernetes/backups/volume.yaml").read_text())
    assert claim["metadata"]["name"] == "pressroom-backups"
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"], "workers are on several nodes"


def test_nothing_starts_with_the_secret_of_the_example() -> None:
    (keys,) = re.findall(r"^API_KEYS=(.*)$", (DEPLOY / "pressroom.env.example").read_text(), re.MULTILINE)
    with pytest.raises(ValidationError):
        api_keys(keys)


def test_how_many_workers_there_are_is_for_keda_to_say() -> None:
    (patch,) = yaml.safe_load((DEPLOY / "kubernetes/keda/kustomization.yaml").read_text())["patches"]
    assert patch["target"] == {"kind": "Deployment", "name": "pressroom-worker"}
    assert yaml.safe_load(patch["patch"]) == [{"op": "remove", "path": "/spec/replicas"}]


def test_installing_says_nothing_that_would_end_up_in_a_key_file() -> None:
    recipes = re.findall(r"^\$\(VENV\)/\.\w+:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert len(recipes) == 3
    lines = [line for recipe in recipes for line in recipe.splitlines()]
    assert [line for line in lines if not line.startswith("\t@")] == []
    assert [line for line in lines if "echo" in line and not line.endswith(">&2")] == []


def test_processes_get_the_time_that_they_may_take_to_end(configured: Settings) -> None:
    grace = configured.shutdown_grace_seconds + 2
    assert f"SHUTDOWN_GRACE_SECONDS={configured.shutdown_grace_seconds:g}" in KUSTOMIZED["literals"]
    assert grace < 30, "Heroku and compose kill after that"
    for kind, spec in DEPLOYMENTS.items():
        (container,) = spec["containers"]
        before = float(container["lifecycle"]["preStop"]["exec"]["command"][1]) if "lifecycle" in container else 0.0
        assert spec["terminationGracePeriodSeconds"] >= grace + before, kind
    assert {float(COMPOSE[kind]["stop_grace_period"].removesuffix("s")) >= grace for kind in KINDS} == {True}
    stops = [float(found) for unit in SYSTEMD.values() for found in re.findall(r"TimeoutStopSec=(\d+)", unit)]
    assert len(stops) == len(KINDS)
    assert min(stops) >= grace


def test_containers_may_do_nothing_that_they_need_not() -> None:
    assert set(DEPLOYMENTS) == set(KINDS) == set(manifests("PodDisruptionBudget"))
    assert "\nUSER 10001" in DOCKERFILE
    for spec in DEPLOYMENTS.values():
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["automountServiceAccountToken"] is False
        for container in (*spec["containers"], *spec["initContainers"]):
            allowed = container["securityContext"]
            assert (allowed["readOnlyRootFilesystem"], allowed["allowPrivilegeEscalation"]) == (True, False)
            assert allowed["capabilities"] == {"drop": ["ALL"]}
    for kind in KINDS:
        assert (COMPOSE[kind]["read_only"], COMPOSE[kind]["cap_drop"]) == (True, ["ALL"])
