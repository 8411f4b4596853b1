"use strict";
// What all pages share: the viewer's time zone, buttons that call the API, and parts that keep themselves current.
(() => {
  const words = document.body.dataset;
  const told = document.getElementById("told");
  let silence = 0;

  function tell(text, lasts = 6000) {
    told.textContent = text;
    clearTimeout(silence);
    if (lasts) silence = setTimeout(() => { told.textContent = ""; }, lasts);
  }

  // An answer of the API, or an error with its `message` and, by field, its `problems`.
  async function call(method, url, body) {
    const wanted = { method, headers: { Accept: "application/json" } };
    if (body !== undefined) {
      wanted.headers["Content-Type"] = "application/json";
      wanted.body = JSON.stringify(body);
    }
    let answer;
    try {
      answer = await fetch(url, wanted);
    } catch {
      throw new Error(words.lost);
    }
    const said = answer.status === 204 ? null : await answer.json().catch(() => ({}));
    if (answer.status === 401) location.reload();
    if (!answer.ok) throw Object.assign(new Error(said.message || words.failed), { problems: said.errors?.json ?? {} });
    return said;
  }

  // Take the live parts of this page from the server anew; what is open stays open, what has the focus keeps it.
  async function refresh() {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (answer.redirected) return location.reload();
    if (!answer.ok) throw new Error(words.lost);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const fresh = page.getElementById(part.id);
      if (fresh && part.innerHTML !== fresh.innerHTML) replace(part, fresh);
      if (fresh) part.dataset.live = fresh.dataset.live;
    }
  }

  function replace(part, fresh) {
    const open = [...part.querySelectorAll("details")].map((details) => details.open);
    const focusable = (root) => [...root.querySelectorAll("a, button, input, select, textarea, summary, [tabindex]")];
    const place = focusable(part).indexOf(document.activeElement);
    const nodes = [...fresh.cloneNode(true).childNodes];
    part.replaceChildren(...nodes);
    part.querySelectorAll("details").forEach((details, number) => { details.open = open[number] ?? details.open; });
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
      await call(button.dataset.method || "POST", button.dataset.call);
      if (button.dataset.go) return location.assign(button.dataset.go);
      if (!document.querySelector("[data-live]")) return location.reload();
      await refresh();
      tell(words.done);
    } catch (error) {
      tell(error.message);
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
  window.pressroom = { call, refresh, tell };
  stayCurrent();
})();
