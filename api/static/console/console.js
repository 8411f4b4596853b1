"use strict";
// What all pages share: the viewer's time zone, buttons that call the API, and parts that keep themselves current.
(() => {
  const words = document.body.dataset;
  const told = document.getElementById("told");
  let silence = 0;
  let underWay = null;
  let following = null;

  function tell(text, lasts = 6000) {
    told.textContent = text;
    clearTimeout(silence);
    if (lasts) silence = setTimeout(() => { told.textContent = ""; }, lasts);
  }

  // What went wrong, in its place. Where the session has ended, with the way to a new one: what is written here stays.
  function explain(place, error) {
    place.textContent = error.message;
    if (error.status !== 401) return;
    const link = document.createElement("a");
    Object.assign(link, { href: words.login, target: "_blank", textContent: words.another });
    place.append(" ", link);
  }

  function fail(error, before = "") {
    tell("", 0);
    explain(told, error);
    if (before) told.prepend(before, " ");
  }

  // Load the page anew, and say this there.
  function reload(text) {
    sessionStorage.setItem("told", text);
    location.reload();
  }

  const refusal = (status, message, problems = {}) => Object.assign(new Error(message), { status, problems });

  async function ask(url, wanted) {
    try {
      return await fetch(url, wanted);
    } catch {
      throw refusal(0, words.lost);
    }
  }

  // An answer of the API, or an error with its `status`, its `message` and, by field, its `problems`.
  async function call(method, url, body, headers = {}) {
    const wanted = { method, headers: { ...headers, Accept: "application/json" } };
    if (body !== undefined) {
      wanted.headers["Content-Type"] = "application/json";
      wanted.body = JSON.stringify(body);
    }
    const answer = await ask(url, wanted);
    const said = answer.status === 204 ? null : await answer.json().catch(() => ({}));
    if (answer.status === 401) throw refusal(401, words.ended);
    if (!answer.ok) throw refusal(answer.status, said.message || words.failed, said.errors?.json);
    return said;
  }

  // A page of ours, to take parts of it.
  async function load(url, headers = {}) {
    const answer = await ask(url, { headers: { ...headers, Accept: "text/html" } });
    if (answer.redirected) throw refusal(401, words.ended);
    if (!answer.ok) throw refusal(answer.status, words.lost);
    return new DOMParser().parseFromString(await answer.text(), "text/html");
  }

  async function renew() {
    let page;
    try {
      page = await load(location.href, { "Live-Parts": "only" });
    } catch (error) {
      if (error.status === 401) return location.reload();
      throw error;
    }
    for (const part of document.querySelectorAll("[data-live]")) {
      const fresh = page.getElementById(part.id);
      if (fresh && part.innerHTML !== fresh.innerHTML) replace(part, fresh);
      if (fresh) part.dataset.live = fresh.dataset.live;
    }
  }

  // Take the live parts of this page from the server anew, once at a time: all who ask while that is under way share
  // the one that follows, which knows what they know.
  function refresh() {
    if (!underWay) {
      underWay = renew().finally(() => { underWay = null; });
      return underWay;
    }
    following ??= underWay.catch(() => {}).then(() => {
      following = null;
      return refresh();
    });
    return following;
  }

  // What is open stays open, what has the focus keeps it, what was scrolled stays where it was.
  function replace(part, fresh) {
    const open = [...part.querySelectorAll("details")].map((details) => details.open);
    const focusable = (root) => [...root.querySelectorAll("a, button, input, select, textarea, summary, [tabindex]")];
    const scrollable = (root) => [...root.querySelectorAll("pre, .scroll")];
    const places = scrollable(part).map((one) => one.scrollTop);
    const place = focusable(part).indexOf(document.activeElement);
    const nodes = [...fresh.cloneNode(true).childNodes];
    part.replaceChildren(...nodes);
    part.querySelectorAll("details").forEach((details, number) => { details.open = open[number] ?? details.open; });
    scrollable(part).forEach((one, number) => { one.scrollTop = places[number] ?? 0; });
    if (place >= 0) focusable(part)[place]?.focus({ preventScroll: true });
  }

  async function stayCurrent() {
    const seconds = [...document.querySelectorAll("[data-live]")].map((part) => Number(part.dataset.live)).filter(Boolean);
    if (seconds.length === 0) return;
    await new Promise((resolve) => { setTimeout(resolve, 1000 * Math.min(...seconds)); });
    if (!document.hidden) {
      try {
        await refresh();
        if (told.textContent === words.lost) tell("");
      } catch {
        tell(words.lost, 0);
      }
    }
    stayCurrent();
  }

  async function press(button) {
    if (button.dataset.confirm && !window.confirm(button.dataset.confirm)) return;
    button.disabled = true;
    try {
      const made = await call(button.dataset.method || "POST", button.dataset.call);
      if (button.dataset.then) return location.assign(button.dataset.then + made.id);
      if (button.dataset.go) return location.assign(button.dataset.go);
      if (!document.querySelector("[data-live]")) return location.reload();
      await refresh();
      tell(words.done);
    } catch (error) {
      fail(error);
    }
    button.disabled = false;
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-call]");
    if (button) press(button);
  });

  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (zone && zone !== words.zone) {
    const known = `zone=${zone}`;
    const asked = document.cookie.includes(known);
    document.cookie = `${known}; path=/; max-age=31536000; samesite=lax`;
    if (!asked && document.cookie.includes(known)) location.reload();
  }
  const kept = sessionStorage.getItem("told");
  if (kept) {
    sessionStorage.removeItem("told");
    tell(kept);
  }
  window.pressroom = { call, explain, fail, load, refresh, reload, tell };
  stayCurrent();
})();
