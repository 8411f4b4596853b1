"""Pages in headless Chromium: they render, say nothing on the console, and ask no other machine."""

from collections.abc import Iterator

import pytest

from tests.support.instance import Instance, fresh_directory, running
from tests.support.visiting import Visit, picture
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    with fresh_directory() as directory, running(directory) as started:
        yield started


def test_the_documentation_renders_from_this_machine_alone(instance: Instance, visit: Visit) -> None:
    visit.page.goto(f"http://127.0.0.1:{instance.port}/docs")
    visit.page.get_by_text("/api/v1/tasks/batch").first.wait_for()
    assert visit.page.get_by_text("Submit one task").first.is_visible()
    picture(visit.page, "docs")
    assert {host for host in visit.hosts if host} == {f"127.0.0.1:{instance.port}"}
    assert visit.complaints == []


def test_a_task_can_be_submitted_from_the_documentation(instance: Instance, visit: Visit) -> None:
    visit.page.goto(f"http://127.0.0.1:{instance.port}/docs")
    visit.page.get_by_text("Submit one task").click()
    visit.page.get_by_role("button", name="Try it out").click()
    visit.page.locator("textarea.body-param__text").fill('{"prompt": "from the docs", "model": "m"}')
    visit.page.get_by_role("button", name="Execute").click()
    visit.page.locator(".live-responses-table .response-col_status", has_text="201").wait_for()
    assert visit.complaints == []


def test_the_dashboard_shows_queues_and_workers_and_runs_no_prompt(instance: Instance, visit: Visit) -> None:
    instance.http.post(
        "/api/v1/tasks",
        json={"prompt": "<script>document.title='owned'</script>", "model": "m", "delay_seconds": 3600},
    )
    for path, seen in {"/rq/": "high", "/rq/0/view/workers": "idle"}.items():
        visit.page.goto(f"http://127.0.0.1:{instance.port}{path}")
        visit.page.get_by_text(seen).first.wait_for()
        picture(visit.page, "dashboard" + path.replace("/", "_"))
        assert visit.page.title() != "owned"
    assert {host for host in visit.hosts if host} == {f"127.0.0.1:{instance.port}"}
    assert visit.complaints == []


def test_a_profile_renders_from_this_machine_alone(instance: Instance, visit: Visit) -> None:
    body = {"task_type": "monitoring_report", "profile": True}
    task_id = instance.ended(instance.http.post("/api/v1/tasks", json=body).json()["id"])["id"]
    path = f"/api/v1/tasks/{task_id}/profile"
    wait_until(lambda: instance.http.get(path).status_code == 200, "the profile is kept")
    visit.page.goto(f"http://127.0.0.1:{instance.port}{path}")
    visit.page.get_by_text(f"task {task_id}, attempt 1").first.wait_for()
    picture(visit.page, "profile")
    assert {host for host in visit.hosts if host} == {f"127.0.0.1:{instance.port}"}
    assert visit.complaints == []
