"""The console in a real browser: submit, watch, review, schedule, be refused; neither it nor axe complains."""

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Dialog, Page, Route, expect

from tests.support.instance import Instance, fresh_directory, running
from tests.support.model_server import Behaviour, ModelServer
from tests.support.serving import serving
from tests.support.visiting import Visit, picture
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser

_KEYS = {scope: f"{scope}-secret-0123456" for scope in ("read", "submit", "admin")}
_PAGES = {
    "now": "/",
    "tasks": "/tasks",
    "task": "/tasks/1",
    "submit": "/submit",
    "submit-content": "/submit/content_generation",
    "review": "/review",
    "content": "/review/1",
    "schedules": "/schedules",
    "schedule": "/schedules/1",
    "schedule-form": "/schedules/1/edit",
    "firings": "/schedules/executions",
    "trends": "/trends",
    "system": "/system",
    "keys": "/system/keys",
    "audit": "/system/audit",
}
_THREE_TIMES = """(field) => {
  const key = { key: "Enter", ctrlKey: true, bubbles: true };
  for (let times = 0; times < 3; times++) field.dispatchEvent(new KeyboardEvent("keydown", key));
}"""
_WATCHED = """
window.sources = [];
window.EventSource = class extends EventSource {
  constructor(url) { super(url); sources.push(this); }
};
window.seen = (isSeen) => {
  Object.defineProperty(document, "hidden", { value: !isSeen, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
};
"""
_PIECE = '{"title": "Quiet machines", "body": "A first paragraph.", "summary": "Small ones win."}'


class Console:
    """A service with three keys, whose model is this test's."""

    def __init__(self, instance: Instance, model: ModelServer) -> None:
        self.base = f"http://127.0.0.1:{instance.port}"
        self.http = instance.http
        self.http.headers["X-API-Key"] = _KEYS["admin"]
        self.model = model

    def enter(self, page: Page, scope: str, path: str = "/") -> None:
        """Log in, and go there."""
        page.goto(f"{self.base}/login?next={path}")
        page.get_by_label("API key").fill(_KEYS[scope])
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(f"{self.base}{path}")

    def ended(self, task_id: int) -> None:
        """Wait for a task."""
        wait_until(lambda: self.http.get(f"/api/v1/tasks/{task_id}").json()["completed_at"], "the task has ended")

    def piece(self) -> int:
        """A content that waits for review."""
        self.http.post("/api/v1/accounts", json={"id": 49, "name": "Tech daily"})
        self.model.answer = _PIECE
        body = {"task_type": "content_generation", "input": {"account_id": 49, "topic": "t", "auto_approve": False}}
        task_id = self.http.post("/api/v1/tasks", json=body).json()["id"]
        self.ended(task_id)
        self.model.answer = None
        return int(self.http.get("/api/v1/contents", params={"task_id": task_id}).json()[0]["id"])


@pytest.fixture(scope="module")
def console() -> Iterator[Console]:
    model = ModelServer()
    keys = ",".join(f"{scope}:{secret}:{scope}" for scope, secret in _KEYS.items())
    with serving(model.application()) as address, fresh_directory() as directory:
        settings = {"LLM_BASE_URL": f"{address}/v1", "LLM_API_KEY": "k", "API_KEYS": keys}
        with running(directory, **settings) as started:
            yield Console(started, model)


def test_a_task_is_submitted_and_watched_until_its_end(console: Console, visit: Visit) -> None:
    page = visit.page
    console.enter(page, "submit")
    console.model.script.append(Behaviour(pause=0.2))
    page.get_by_role("link", name="Submit a task").click()
    page.locator("#model").fill("")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("#prompt")).to_be_focused()
    assert page.get_by_text("Missing data for required field.").first.is_visible()
    visit.complaints.clear()  # the browser notes the 422
    page.locator("#prompt").fill("Tell <b>me</b> of 🦜 " + "parrots and " * 8)
    page.locator("#model").fill("m")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("#live-text")).to_contain_text("echo: Tell <b>me</b>")
    picture(page, "console-live")
    expect(page.locator("#head")).to_contain_text("Completed", timeout=30_000)
    expect(page.locator("#result")).to_contain_text("🦜 parrots and")
    expect(page.locator("#live")).to_be_hidden()
    page.get_by_role("link", name="Another like it").click()
    assert page.locator("#prompt").input_value().startswith("Tell <b>me</b>")
    assert visit.complaints == []


def test_a_task_is_submitted_once_however_often_one_asks(console: Console, visit: Visit) -> None:
    page = visit.page
    console.enter(page, "submit", "/submit")
    page.locator("#prompt").fill("once, please")
    page.locator("#model").fill("m")

    def lose(route: Route) -> None:
        route.fetch()
        route.abort()

    page.route("**/api/v1/tasks", lose, times=1)
    page.locator("#prompt").press("Control+Enter")
    expect(page.locator("#problem")).to_contain_text("No connection.")
    visit.complaints.clear()  # the browser notes it, too
    page.locator("#prompt").evaluate(_THREE_TIMES)
    page.wait_for_url("**/tasks/*")
    assert console.http.get("/api/v1/tasks?search=once, please").headers["X-Total-Count"] == "1"
    assert visit.complaints == []


def test_what_is_written_outlives_the_session(console: Console, visit: Visit) -> None:
    page = visit.page
    console.enter(page, "submit", "/submit")
    page.locator("#prompt").fill("a long text")
    page.locator("#model").fill("m")
    page.context.clear_cookies()
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("#problem")).to_contain_text("Your session has ended.")
    visit.complaints.clear()  # the browser notes the 401
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Log in in another tab").click()
    console.enter(opened.value, "submit")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**/tasks/*")
    assert visit.complaints == []


def test_a_page_that_nobody_sees_holds_no_connection(console: Console, visit: Visit) -> None:
    task_id = console.http.post("/api/v1/tasks", json={"prompt": "p", "model": "m", "delay_seconds": 3600}).json()["id"]
    page = visit.page
    page.add_init_script(_WATCHED)
    console.enter(page, "submit", f"/tasks/{task_id}")
    assert page.evaluate("sources.length") == 1
    page.evaluate("seen(false)")
    assert page.evaluate("sources.map((one) => one.readyState)") == [2]
    console.http.post(f"/api/v1/tasks/{task_id}/cancel")
    page.evaluate("seen(true)")
    expect(page.locator("#head")).to_contain_text("Cancelled")
    expect(page.locator("#told")).to_contain_text("Cancelled")
    events = console.http.get(f"/api/v1/tasks/{task_id}/events").json()
    assert page.evaluate("sources.map((one) => one.url)")[1].endswith(f"/events?after={events[0]['id']}")
    assert page.evaluate("sources.map((one) => one.readyState)") == [2, 2]
    assert visit.complaints == []


def test_who_asks_for_news_while_they_come_shares_the_next(console: Console, visit: Visit) -> None:
    task_id = console.http.post("/api/v1/tasks", json={"prompt": "p", "model": "m", "delay_seconds": 3600}).json()["id"]
    page = visit.page
    console.enter(page, "read", f"/tasks/{task_id}")
    page.wait_for_load_state()
    loads: list[str] = []
    page.on("request", lambda request: loads.append(request.url))
    page.evaluate("Promise.all([1, 2, 3, 4, 5].map(() => pressroom.refresh()))")
    assert loads.count(page.url) == 2
    assert visit.complaints == []


def test_a_waiting_task_is_cancelled_and_retried(console: Console, visit: Visit) -> None:
    body = {"prompt": "later", "model": "m", "delay_seconds": 3600}
    task_id = console.http.post("/api/v1/tasks", json=body).json()["id"]
    page = visit.page
    console.enter(page, "submit", f"/tasks/{task_id}")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#head")).to_contain_text("Cancelled")
    page.get_by_role("button", name="Retry").click()
    expect(page.locator("#head")).to_contain_text("Waiting")
    assert visit.complaints == []


def test_tasks_are_found_and_paged(console: Console, visit: Visit) -> None:
    made = [{"prompt": f"needle {number}", "model": "m", "delay_seconds": 3600} for number in range(60)]
    console.http.post("/api/v1/tasks/batch", json={"tasks": made})
    page = visit.page
    console.enter(page, "read", "/tasks")
    page.get_by_label("Number, or words of the prompt").fill("NEEDLE")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("60 tasks")).to_be_visible()
    assert page.locator("tbody tr").count() == 50
    page.get_by_role("link", name="Next page").click()
    expect(page.locator("tbody tr")).to_have_count(10)
    assert page.get_by_role("link", name="Submit").count() == 0
    assert visit.complaints == []


def test_pieces_are_reviewed_with_the_keyboard(console: Console, visit: Visit) -> None:
    first, second, third = (console.piece() for _ in range(3))
    page = visit.page
    console.enter(page, "admin", "/review")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/review/{third}")
    page.keyboard.press("e")
    page.get_by_label("Title").fill("Louder machines")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("heading", name="Louder machines").wait_for()
    page.keyboard.press("a")
    page.wait_for_url(f"**/review/{second}")
    page.keyboard.press("r")
    page.get_by_label("Why?").fill("too short")
    page.get_by_role("dialog").get_by_role("button", name="Reject").click()
    page.wait_for_url(f"**/review/{first}")
    page.goto(f"{console.base}/review")
    page.get_by_label("All on this page").check()
    page.get_by_role("button", name="Approve").click()
    page.get_by_text("Nothing waits").wait_for()
    states = {number: console.http.get(f"/api/v1/contents/{number}").json() for number in (first, second, third)}
    assert [one["review_status"] for one in states.values()] == ["APPROVED", "REJECTED", "APPROVED"]
    assert (states[second]["review_reason"], states[third]["title"]) == ("too short", "Louder machines")
    assert visit.complaints == []


def test_what_others_decided_meanwhile_holds_nobody_up(console: Console, visit: Visit) -> None:
    first, second, third = (console.piece() for _ in range(3))
    page = visit.page
    console.enter(page, "admin", "/review")
    for number in (first, second, third):
        page.locator(f"tr[data-piece='{number}'] .choose").check()
    console.http.post(f"/api/v1/contents/{second}/approve")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Approve").click()
    expect(page.locator("#told")).to_contain_text("2 done, 1 skipped")
    states = [console.http.get(f"/api/v1/contents/{number}").json()["review_status"] for number in (first, third)]
    assert states == ["APPROVED", "APPROVED"]
    assert page.locator(f"tr[data-piece='{third}']").count() == 0


def test_what_is_being_edited_is_not_decided_about(console: Console, visit: Visit) -> None:
    number = console.piece()
    page = visit.page
    console.enter(page, "admin", f"/review/{number}")
    page.keyboard.press("e")
    page.get_by_label("Title").fill("Half a th")
    expect(page.get_by_role("button", name="Approve")).to_be_hidden()
    page.get_by_role("button", name="Save").focus()
    for key in "arjk":
        page.keyboard.press(key)
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.once("dialog", stay)
    page.get_by_role("link", name="Tasks", exact=True).click(no_wait_after=True)
    wait_until(lambda: page.evaluate("1") and asked, "one is asked before edits are lost")
    assert asked == ["beforeunload"]
    page.get_by_label("Title").fill("Half a thought")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("heading", name="Half a thought").wait_for()
    page.wait_for_load_state()
    assert console.http.get(f"/api/v1/contents/{number}").json()["review_status"] == "PENDING_REVIEW"
    page.keyboard.down("a")
    page.keyboard.down("a")  # it repeats
    page.keyboard.up("a")
    page.wait_for_url(lambda url: not url.endswith(f"/{number}"))
    assert visit.complaints == []


def test_a_schedule_is_made_with_a_preview_paused_and_fired(console: Console, visit: Visit) -> None:
    page = visit.page
    console.enter(page, "admin", "/schedules/new?task_type=submit_task")
    page.get_by_label("Name").fill("Hourly word")
    page.get_by_label("Cron expression").fill("0 25 * * *")
    expect(page.locator("#preview")).to_contain_text("Not a cron expression")
    page.get_by_label("Cron expression").fill("30 6 * * *")
    expect(page.locator("#preview li")).to_have_count(5)
    expect(page.locator("#preview")).to_contain_text("06:30")
    page.get_by_label("Time zone").fill("UTC")
    page.locator("[id='params.prompt']").fill("A word, please")
    page.locator("[id='params.model']").fill("m")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("heading", name="Hourly word").wait_for()
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("h1")).to_contain_text("Paused")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Fire now").click()
    page.wait_for_url("**/schedules/executions/*")
    expect(page.get_by_text("by hand")).to_be_visible()
    assert visit.complaints == []


def test_the_form_of_a_schedule_says_what_is_wrong_and_keeps_what_is_written(console: Console, visit: Visit) -> None:
    page = visit.page
    console.enter(page, "admin", "/schedules/new")
    page.get_by_label("Name").fill("For nobody")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("[id='wrong-params.account_ids']")).to_contain_text("Missing data for required field.")
    expect(page.locator("[id='params.account_ids']")).to_be_focused()
    visit.complaints.clear()  # the browser notes the 422
    page.get_by_label("Runs").select_option("submit_task")
    expect(page.locator("[id='params.prompt']")).to_be_visible()
    assert page.locator("[id='params.account_ids']").count() == 0
    assert page.get_by_label("Name").input_value() == "For nobody"
    page.locator("#task_type").evaluate("(select) => { select.add(new Option('gone')); select.value = 'gone'; }")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#problem")).to_contain_text("task_type: Unknown executor")
    visit.complaints.clear()  # the browser notes the 422


def test_a_schedule_has_bounds_on_the_viewers_clock(console: Console, browser: Browser) -> None:
    page = browser.new_page(timezone_id="Asia/Shanghai")
    visit = Visit(page)
    console.enter(page, "admin", "/schedules/new?task_type=cleanup")
    page.locator("body[data-zone='Asia/Shanghai']").wait_for()
    page.get_by_label("Name").fill("Later")
    page.get_by_label("Starts").fill("2090-01-02T08:00")
    expect(page.locator("#preview li").first).to_contain_text("2090-01-02 ")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("heading", name="Later").wait_for()
    (made,) = [one for one in console.http.get("/api/v1/scheduler/tasks").json() if one["name"] == "Later"]
    assert (made["starts_at"], made["ends_at"]) == ("2090-01-02T00:00:00Z", None)
    path = f"/api/v1/scheduler/tasks/{made['id']}"
    console.http.patch(path, json={"starts_at": "2090-01-02T00:00:30.5Z"})
    for change, kept in (("Description", "2090-01-02T00:00:30.500000Z"), ("Starts", None)):
        page.goto(f"{console.base}/schedules/{made['id']}/edit")
        assert page.get_by_label("Starts").input_value() == "2090-01-02T08:00"
        page.get_by_label(change).fill("" if change == "Starts" else "More words")
        page.get_by_role("button", name="Save").click()
        page.wait_for_url(f"**/schedules/{made['id']}")
        assert console.http.get(path).json()["starts_at"] == kept
    assert visit.complaints == []
    page.close()


def test_who_may_not_is_told_so(console: Console, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{console.base}/system/keys")
    assert page.url == f"{console.base}/login?next=/system/keys"
    page.get_by_label("API key").fill(_KEYS["read"])
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Your key may not do this").wait_for()
    picture(page, "console-refused")
    visit.complaints.clear()  # the browser notes the 403
    page.goto(f"{console.base}/schedules")
    for name in ("New schedule", "Fire now", "Pause"):
        assert page.get_by_text(name, exact=True).count() == 0
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url(f"{console.base}/login")
    page.goto(f"{console.base}/tasks")
    assert page.url == f"{console.base}/login?next=/tasks"
    assert visit.complaints == []


def test_the_language_is_the_browsers_until_another_is_chosen(console: Console, browser: Browser) -> None:
    page = browser.new_page(locale="zh-CN")
    page.goto(f"{console.base}/login")
    page.get_by_role("button", name="登录").wait_for()
    page.get_by_role("link", name="English").click()
    page.get_by_role("button", name="Log in").wait_for()
    page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_fit_and_can_be_used_by_everybody(console: Console, browser: Browser, width: int, theme: str) -> None:
    console.piece()
    for locale in ("en-GB", "zh-CN"):
        page = browser.new_page(
            viewport={"width": width, "height": 900},
            locale=locale,
            color_scheme="dark" if theme == "dark" else "light",
            timezone_id="Asia/Shanghai",
            extra_http_headers={"X-API-Key": _KEYS["admin"]},
        )
        visit = Visit(page)
        for name, path in _PAGES.items():
            page.goto(f"{console.base}{path}")
            page.locator("body[data-zone='Asia/Shanghai']").wait_for()
            picture(page, f"console-{name}-{locale}-{width}-{theme}")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is cut"
            if locale == "en-GB":
                found = Axe().run(page).response["violations"]
                serious = [one["id"] for one in found if one["impact"] in ("serious", "critical")]
                assert serious == [], f"{name}: {[node['html'] for one in found for node in one['nodes']]}"
        assert {host for host in visit.hosts if host} == {console.base.removeprefix("http://")}
        assert visit.complaints == []
        page.close()
