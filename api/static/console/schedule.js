"use strict";
// The form of a schedule: one of two rhythms, and a preview of the slots that it means.
(() => {
  const form = document.getElementById("form");
  const preview = document.getElementById("preview");
  const times = ["cron_expression", "interval", "interval_unit", "timezone"];
  let waiting = 0;
  let asked = 0;

  function choose() {
    const chosen = form.querySelector("[name=rhythm]:checked").value;
    for (const field of form.querySelectorAll("[data-rhythm]")) field.disabled = field.dataset.rhythm !== chosen;
  }

  async function look() {
    const query = new URLSearchParams();
    for (const name of times) {
      const field = document.getElementById(name);
      if (!field.disabled) query.set(name, field.value);
    }
    const turn = ++asked;
    const answer = await fetch(`${preview.dataset.preview}?${query}`, { headers: { Accept: "text/html" } });
    if (turn !== asked || !answer.ok || answer.redirected) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    preview.replaceChildren(...page.body.childNodes);
  }

  form.addEventListener("input", (event) => {
    if (event.target.name === "rhythm") choose();
    clearTimeout(waiting);
    waiting = setTimeout(() => look().catch(() => {}), 250);
  });
  form.querySelector("[data-reload]").addEventListener("change", (event) => {
    const there = new URL(location.href);
    there.searchParams.set("task_type", event.target.value);
    location.assign(there);
  });
  choose();
  look().catch(() => {});
})();
