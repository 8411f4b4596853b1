"use strict";
// The form of a schedule: one of two rhythms, and a preview of the slots that it means.
(() => {
  const form = document.getElementById("form");
  const preview = document.getElementById("preview");
  const problem = document.getElementById("problem");
  const runs = document.getElementById("task_type");
  const times = ["cron_expression", "interval", "interval_unit", "timezone", "starts_at", "ends_at"];
  const { explain, load, valueOf } = window.pressroom;
  let kind = runs.value;
  let waiting = 0;
  let asked = 0;

  function choose() {
    const chosen = form.querySelector("[name=rhythm]:checked").value;
    for (const field of form.querySelectorAll("[data-rhythm]")) field.disabled = field.dataset.rhythm !== chosen;
  }

  async function look() {
    const there = new URL(preview.dataset.preview, location);
    for (const name of times) {
      const field = document.getElementById(name);
      if (!field.disabled && field.value) there.searchParams.set(name, valueOf(field));
    }
    const turn = ++asked;
    const page = await load(there);
    if (turn === asked) preview.replaceChildren(...page.body.childNodes);
  }

  // Another kind has other parameters; all else that is written here stays.
  async function change() {
    const there = new URL(location.href);
    const wanted = runs.value;
    there.searchParams.set("task_type", wanted);
    try {
      const page = await load(there);
      if (runs.value !== wanted) return;
      for (const id of ["about", "params"]) {
        document.getElementById(id).replaceChildren(...page.getElementById(id).childNodes);
      }
      history.replaceState(null, "", there);
      kind = wanted;
    } catch (error) {
      runs.value = kind; // whose parameters are still there
      explain(problem, error);
    }
  }

  form.addEventListener("input", (event) => {
    if (event.target.name === "rhythm") choose();
    else if (!times.includes(event.target.id)) return;
    clearTimeout(waiting);
    waiting = setTimeout(() => look().catch(() => {}), 250);
  });
  runs.addEventListener("change", change);
  choose();
  look().catch(() => {});
})();
