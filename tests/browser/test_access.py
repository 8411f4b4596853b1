"""In a real browser: people log in, other sites can do nothing with that, and what others wrote is only text."""

import sys
from collections.abc import Iterator
from subprocess import run

import pytest
from aiohttp import web
from redis import Redis

from tests.support.instance import ROOT, Instance, clean_environment, fresh_directory, running
from tests.support.serving import serving
from tests.support.visiting import Visit, picture

pytestmark = pytest.mark.browser

_EVIL = '<img src=x onerror="window.owned=1"><script>window.owned=1</script>\'"--></script>'


def fill(redis: Redis, key: str, **facts: str) -> None:
    """Write what RQ keeps in a hash, and some times."""
    times = dict.fromkeys(("created_at", "enqueued_at", "birth", "last_heartbeat"), "2026-01-01T00:00:00.000000Z")
    for name, value in {**times, **facts}.items():
        redis.hset(key, name, value)


class Site:
    """A service with one key."""

    def __init__(self, instance: Instance, key: str) -> None:
        self.instance = instance
        self.base = f"http://127.0.0.1:{instance.port}"
        self.key = key

    def enter(self, visit: Visit) -> None:
        """Log in."""
        visit.page.goto(f"{self.base}/login")
        visit.page.get_by_label("API key").fill(self.key)
        visit.page.get_by_role("button", name="Log in").click()
        visit.page.wait_for_url(f"{self.base}/")

    def tasks(self) -> int:
        """How many there are."""
        answer = self.instance.http.get("/api/v1/tasks?limit=1", headers={"X-API-Key": self.key})
        return int(answer.headers["X-Total-Count"])


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with fresh_directory() as directory, running(directory) as started:
        # Beside a running service it finds the embedded database by itself.
        made = run(
            [sys.executable, "-m", "jobs.keys", "make", "ada", "--scope", "admin"],
            cwd=ROOT, env=clean_environment(DATA_DIR=directory), capture_output=True, text=True, check=True,
        )  # fmt: skip
        yield Site(started, made.stdout.strip())


def test_a_person_logs_in_looks_around_and_logs_out(site: Site, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{site.base}/docs")
    assert page.url == f"{site.base}/login?next=/docs"
    field = page.get_by_label("API key")
    assert field.evaluate("element => element === document.activeElement")
    picture(page, "login")
    page.emulate_media(color_scheme="dark")
    picture(page, "login-dark")
    assert visit.complaints == []
    field.fill("pr_wrong")
    field.press("Enter")
    page.get_by_role("alert").wait_for()
    assert page.get_by_label("API key").get_attribute("aria-invalid") == "true"
    page.set_viewport_size({"width": 360, "height": 640})
    picture(page, "login-error-small-dark")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.emulate_media(color_scheme="light")
    visit.complaints.clear()  # the browser notes that a page came with 401
    page.get_by_label("API key").fill(site.key)
    page.get_by_role("button", name="Log in").click()
    page.get_by_text("/api/v1/tasks/batch").first.wait_for()
    assert page.url == f"{site.base}/docs"
    page.goto(f"{site.base}/rq/")
    page.get_by_role("cell", name="No queues").or_(page.get_by_role("link", name="0").first).first.wait_for()
    assert page.evaluate("document.cookie") == ""
    page.goto(f"{site.base}/login")
    page.get_by_text("You are logged in with the key ada").wait_for()
    picture(page, "login-already")
    page.get_by_role("button", name="Log out").click()
    page.goto(f"{site.base}/rq/")
    assert page.url.startswith(f"{site.base}/login?next=")
    assert visit.complaints == []


def test_a_form_of_another_site_changes_nothing(site: Site, visit: Visit) -> None:
    site.enter(visit)
    before = site.tasks()
    forms = {
        "/api/v1/tasks": '<input name=\'{"prompt":"stolen","model":"m","metadata":{"x":"\' value=\'"}}\'>',
        "/logout": '<input name="a" value="b">',
        "/login": f'<input name="key" value="{site.key}">',
    }

    async def evil(request: web.Request) -> web.Response:
        path = request.query["to"]
        kind = "text/plain" if path.startswith("/api") else "application/x-www-form-urlencoded"
        text = (
            f'<form method="post" enctype="{kind}" action="{site.base}{path}">{forms[path]}<button>win</button></form>'
        )
        return web.Response(text=text, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", evil)
    with serving(app) as address:
        elsewhere = address.replace("127.0.0.1", "localhost")
        for path in forms:
            visit.page.goto(f"{elsewhere}/?to={path}")
            with visit.page.expect_navigation() as answer:
                visit.page.get_by_role("button").click()
            # The session's cookie is not sent along, or its coming from elsewhere is noticed.
            assert answer.value.status in (401, 403)
    assert site.tasks() == before
    visit.page.goto(f"{site.base}/docs")
    assert visit.page.url == f"{site.base}/docs"


def test_a_task_submitted_in_the_documentation_is_shown_as_text(site: Site, visit: Visit) -> None:
    site.enter(visit)
    page = visit.page
    page.goto(f"{site.base}/docs")
    page.get_by_text("Submit one task").click()
    page.get_by_role("button", name="Try it out").click()
    prompt = _EVIL.replace('"', '\\"')
    page.locator("textarea.body-param__text").fill(f'{{"prompt": "{prompt}", "model": "m", "delay_seconds": 3600}}')
    page.get_by_role("button", name="Execute").click()
    page.locator(".live-responses-table .response-col_status", has_text="201").wait_for()
    page.locator(".live-responses-table").get_by_text("onerror=").first.wait_for()
    assert page.evaluate("window.owned") is None
    assert visit.complaints == []


def test_what_stands_in_redis_is_text_in_the_dashboard(site: Site, visit: Visit) -> None:
    site.enter(visit)
    redis, page = site.instance.redis, visit.page
    data = '["jobs.entry.perform", null, [666], {}]'
    fill(redis, "rq:job:666", data=data, origin="side", status="failed", description=_EVIL)
    redis.sadd("rq:queues", f"rq:queue:{_EVIL}")
    redis.rpush(f"rq:queue:{_EVIL}", "666")
    redis.rpush("rq:queue:side", "666")
    redis.sadd("rq:queues", "rq:queue:side")
    fill(redis, f"rq:worker:{_EVIL}", queues=_EVIL, state="idle", version=_EVIL, python_version=_EVIL)
    redis.sadd("rq:workers", f"rq:worker:{_EVIL}")
    try:
        for path in ("", "0/view/workers", "0/view/jobs/side/queued/8/asc/1", "0/view/job/666"):
            page.goto(f"{site.base}/rq/{path}")
            page.locator("#queues, #workers, #jobs, #job-data").get_by_text("onerror=").first.wait_for()
            picture(page, "dashboard_evil_" + path.replace("/", "_"))
            assert page.evaluate("window.owned") is None
            assert visit.complaints == []
    finally:
        redis.delete("rq:job:666", "rq:queue:side", f"rq:queue:{_EVIL}", f"rq:worker:{_EVIL}")
        redis.srem("rq:queues", "rq:queue:side", f"rq:queue:{_EVIL}")
        redis.srem("rq:workers", f"rq:worker:{_EVIL}")


def test_a_failed_task_is_retried_from_the_dashboard(site: Site, visit: Visit) -> None:
    site.enter(visit)
    key = {"X-API-Key": site.key}
    http = site.instance.http
    task = http.post("/api/v1/tasks", json={"prompt": "x", "model": "m", "delay_seconds": 3600}, headers=key).json()
    http.post(f"/api/v1/tasks/{task['id']}/cancel", headers=key)
    redis = site.instance.redis
    fill(redis, f"rq:job:{task['id']}", data='["x", null, [], {}]', origin="low", status="failed")
    visit.page.goto(f"{site.base}/rq/0/view/job/{task['id']}")
    with visit.page.expect_response("**/requeue") as answer:
        visit.page.get_by_role("button", name="Requeue").click()
    assert answer.value.status == 200
    assert http.get(f"/api/v1/tasks/{task['id']}", headers=key).json()["status"] == "PENDING"
    acts = http.get("/api/v1/audit?action=POST /rq/job/<job_id>/requeue", headers=key).json()
    assert [(act["who"], act["outcome"]) for act in acts] == [("ada", "DONE")]
    assert visit.complaints == []
