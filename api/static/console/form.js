"use strict";
// Forms made from schemas: what their controls hold becomes the JSON of a request; its errors go to the controls.
(() => {
  const form = document.getElementById("form");
  const problem = document.getElementById("problem");
  const words = form.dataset;
  const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

  function number(text) {
    if (text.trim() === "" || Number.isNaN(Number(text))) throw new Error(words.notnumber);
    return Number(text);
  }

  function json(text) {
    try {
      return JSON.parse(text);
    } catch {
      throw new Error(words.notjson);
    }
  }

  const readers = {
    boolean: (text) => text === "true",
    integer: number,
    number,
    lines,
    numbers: (text) => lines(text).map(number),
    json,
    either: (text) => (text.trimStart().startsWith("[") ? json(text) : text),
  };

  function put(body, path, value) {
    const names = path.split(".");
    const last = names.pop();
    const inner = names.reduce((place, name) => (place[name] ??= {}), body);
    inner[last] = value;
  }

  function complain(field, text) {
    const place = document.getElementById(`wrong-${field.dataset.field}`);
    field.setAttribute("aria-invalid", "true");
    if (place) place.textContent = text;
    const details = field.closest("details");
    if (details) details.open = true;
  }

  function fields() {
    return [...form.querySelectorAll("[data-field]")].filter((field) => !field.disabled);
  }

  // The request's body; null when a control holds what cannot be sent.
  function read() {
    const body = {};
    let isWell = true;
    for (const field of fields()) {
      const { field: path, kind } = field.dataset;
      field.removeAttribute("aria-invalid");
      const place = document.getElementById(`wrong-${path}`);
      if (place) place.textContent = "";
      if (kind === "checkbox") {
        put(body, path, field.checked);
      } else if (field.value.trim() === "") {
        if (field.dataset.empty === "text") put(body, path, "");
      } else {
        try {
          put(body, path, (readers[kind] ?? String)(field.value));
        } catch (error) {
          complain(field, error.message);
          isWell = false;
        }
      }
    }
    return isWell ? body : null;
  }

  function flat(problems, path = "") {
    if (Array.isArray(problems)) return [[path, problems.join(" ")]];
    if (typeof problems !== "object" || problems === null) return [[path, String(problems)]];
    return Object.entries(problems).flatMap(([name, inner]) => flat(inner, path ? `${path}.${name}` : name));
  }

  function show(error) {
    const found = flat(error.problems ?? {});
    const others = [];
    for (const [path, text] of found) {
      const field = fields().find((one) => path === one.dataset.field || path.startsWith(`${one.dataset.field}.`));
      if (field) complain(field, text);
      else others.push(path && !path.startsWith("_") ? `${path}: ${text}` : text);
    }
    problem.textContent = found.length === 0 ? error.message : others.join(" ");
    (form.querySelector("[aria-invalid]") ?? problem).focus();
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    problem.textContent = "";
    const body = read();
    if (body === null) return form.querySelector("[aria-invalid]").focus();
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      const made = await window.pressroom.call(words.method ?? "POST", words.target, body);
      location.assign(words.then + made.id);
    } catch (error) {
      show(error);
      button.disabled = false;
    }
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  window.pressroom.readForm = read;
})();
