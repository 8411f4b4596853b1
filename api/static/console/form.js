"use strict";
// Forms made from schemas: what their controls hold becomes the JSON of a request; its errors go to the controls.
(() => {
  const form = document.getElementById("form");
  const problem = document.getElementById("problem");
  const words = form.dataset;
  const { call, explain } = window.pressroom;
  let isUnderWay = false;
  let sent = "";
  let key = "";
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

  // A wall-clock time of the page's zone, in UTC; a control that was not touched holds a more exact one.
  function moment(text, field) {
    if (text === field.defaultValue) return field.dataset.moment;
    const zone = { timeZone: document.body.dataset.zone };
    const shape = new Intl.DateTimeFormat("sv", { ...zone, dateStyle: "short", timeStyle: "medium" }); // as in ISO 8601
    const ahead = (instant) => Date.parse(`${shape.format(instant).replace(" ", "T")}Z`) - instant;
    const local = Date.parse(`${text}Z`);
    const near = local - ahead(local); // the clock may be changed in between
    return new Date(local - ahead(near)).toISOString();
  }

  const readers = {
    boolean: (text) => text === "true",
    integer: number,
    number,
    lines,
    numbers: (text) => lines(text).map(number),
    json,
    either: (text) => (text.trimStart().startsWith("[") ? json(text) : text),
    moment,
  };
  const valueOf = (field) => (readers[field.dataset.kind] ?? String)(field.value, field);

  function put(body, path, value) {
    const names = path.split(".");
    const last = names.pop();
    const inner = names.reduce((place, name) => (place[name] ??= {}), body);
    inner[last] = value;
  }

  const add = (place, text) => place.append(place.textContent ? " " : "", text);

  // What is wrong is told at its control; below the form where there is no room for it.
  function complain(field, text) {
    const place = document.getElementById(`wrong-${field.dataset.field}`);
    field.setAttribute("aria-invalid", "true");
    add(place ?? problem, place ? text : `${field.dataset.field}: ${text}`);
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
        if (field.dataset.empty) put(body, path, field.dataset.empty === "text" ? "" : null);
      } else {
        try {
          put(body, path, valueOf(field));
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

  // The control that a path is about: the one of that name, else the smallest of what it is a part of.
  function fieldOf(path) {
    const [found] = fields()
      .filter((field) => field.type !== "hidden" && `${path}.`.startsWith(`${field.dataset.field}.`))
      .sort((one, other) => other.dataset.field.length - one.dataset.field.length);
    return found;
  }

  function show(error) {
    const found = flat(error.problems ?? {});
    if (found.length === 0) explain(problem, error);
    for (const [path, text] of found) {
      const field = fieldOf(path);
      if (field) complain(field, text);
      else add(problem, path && !path.startsWith("_") ? `${path}: ${text}` : text);
    }
    (form.querySelector("[aria-invalid]") ?? problem).focus();
  }

  // The same again, when the answer to it was lost, makes nothing twice; what was changed meanwhile is something else.
  function keyOf(body) {
    const text = JSON.stringify(body);
    if (text !== sent) {
      sent = text;
      key = [...crypto.getRandomValues(new Uint32Array(4))].join("-");
    }
    return key;
  }

  function busy(isSo) {
    isUnderWay = isSo;
    form.querySelector("button").disabled = isSo;
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (isUnderWay) return;
    problem.textContent = "";
    const body = read();
    if (body === null) return form.querySelector("[aria-invalid]").focus();
    busy(true);
    try {
      const made = await call(words.method ?? "POST", words.target, body, { "Idempotency-Key": keyOf(body) });
      sent = "";
      location.assign(words.then + made.id);
    } catch (error) {
      show(error);
      busy(false);
    }
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.repeat) form.requestSubmit();
  });
  // Browsers may bring a page back as it was left.
  window.addEventListener("pageshow", (event) => { if (event.persisted) busy(false); });
  window.pressroom.valueOf = valueOf;
})();
