"use strict";
// The inbox and a piece's page: decisions go to the API; keys for those who read many.
(() => {
  const { call, explain, fail, reload, tell } = window.pressroom;
  const inbox = document.getElementById("inbox");
  const piece = document.getElementById("piece");
  const dialog = document.getElementById("reject");
  const by = (id) => document.getElementById(id);
  let isBusy = false; // a decision is on its way: keys wait until it is made

  // What the dialog was closed with: `{reason, regenerate}`, or null.
  function askWhy() {
    by("reason").value = "";
    by("regenerate").checked = false;
    dialog.returnValue = "";
    dialog.showModal();
    return new Promise((resolve) => {
      dialog.addEventListener("close", () => {
        const reason = by("reason").value.trim();
        resolve(dialog.returnValue && reason ? { reason, regenerate: by("regenerate").checked } : null);
      }, { once: true });
    });
  }

  function onList() {
    const rows = [...inbox.querySelectorAll("tr[data-piece]")];
    const chosen = () => rows.filter((row) => row.querySelector(".choose")?.checked);
    let current = -1;

    function count() {
      const number = chosen().length;
      const words = by("chosen").dataset;
      by("chosen").textContent = number ? words.some.replace("{count}", number) : words.none;
      for (const id of ["bulk-approve", "bulk-reject"]) by(id).disabled = isBusy || number === 0;
    }

    function move(step) {
      rows[current]?.classList.remove("current");
      current = Math.max(0, Math.min(rows.length - 1, current + step));
      rows[current].classList.add("current");
      rows[current].querySelector(".open").focus();
    }

    // Whether it was decided here; others may have done so before, or removed it.
    async function decide(row, verb, body) {
      try {
        await call("POST", `${inbox.dataset.content}/${row.dataset.piece}/${verb}`, body);
        return true;
      } catch (error) {
        if (error.status === 404 || error.status === 409) return false;
        throw error;
      }
    }

    // One after another: a decision about a thousand pieces is no burst of a thousand requests.
    async function act(targets, verb, body) {
      const found = { done: 0, skipped: 0, all: targets.length };
      const told = (words) => words.replace(/\{(\w+)\}/g, (_, name) => found[name]);
      isBusy = true;
      count();
      try {
        for (const row of targets) {
          found[(await decide(row, verb, body)) ? "done" : "skipped"] += 1;
          row.querySelector(".choose").checked = false; // what is left is what is still to be decided
          tell(told(inbox.dataset.progress), 0);
        }
        by("all").checked = false;
        reload(told(inbox.dataset.outcome));
      } catch (error) {
        fail(error, told(inbox.dataset.outcome));
        isBusy = false;
        count();
      }
    }

    async function approve(targets) {
      if (targets.length > 1 && !window.confirm(inbox.dataset.sure)) return;
      await act(targets, "approve");
    }

    async function reject(targets) {
      const why = await askWhy();
      if (why) await act(targets, "reject", why);
    }

    // What is chosen, else the row that one is at.
    const targets = () => (chosen().length ? chosen() : rows[current] ? [rows[current]] : []);
    if (dialog && rows.length) {
      inbox.addEventListener("change", count);
      by("all").addEventListener("change", () => {
        for (const row of rows) row.querySelector(".choose").checked = by("all").checked;
        count();
      });
      by("bulk-approve").addEventListener("click", () => approve(chosen()));
      by("bulk-reject").addEventListener("click", () => reject(chosen()));
    }
    const keys = { j: () => move(1), k: () => move(-1) };
    if (dialog) {
      Object.assign(keys, {
        x: () => rows[current]?.querySelector(".choose").click(),
        a: () => targets().length && approve(targets()),
        r: () => targets().length && reject(targets()),
      });
    }
    return rows.length ? keys : {};
  }

  function onPiece() {
    const { content, next } = piece.dataset;
    const editing = by("editing");

    // Do this once at a time; `show` tells what went wrong.
    async function once(act, show) {
      if (isBusy) return;
      isBusy = true;
      try {
        await act();
      } catch (error) {
        show(error);
        isBusy = false;
      }
    }

    async function decide(verb, body) {
      await call("POST", `${content}/${verb}`, body);
      location.assign(next);
    }

    async function reject() {
      const why = await askWhy();
      if (why) await once(() => decide("reject", why), fail);
    }

    async function save() {
      await call("PATCH", content, Object.fromEntries(new FormData(editing)));
      location.reload();
    }

    // What is being edited is not decided about, nor left behind, before it is saved or dropped.
    function edit(isOn) {
      editing.hidden = !isOn;
      by("reading").hidden = by("actions").hidden = isOn;
      (isOn ? by("body") : by("edit")).focus();
    }

    by("approve")?.addEventListener("click", () => once(() => decide("approve"), fail));
    by("open-reject")?.addEventListener("click", reject);
    by("edit")?.addEventListener("click", () => edit(true));
    by("drop")?.addEventListener("click", () => edit(false));
    editing?.addEventListener("submit", (event) => {
      event.preventDefault();
      once(save, (error) => explain(by("problem"), error));
    });
    window.addEventListener("beforeunload", (event) => {
      if (isBusy || !editing || editing.hidden) return;
      const written = [...editing.querySelectorAll("input, textarea")];
      if (written.some((field) => field.value !== field.defaultValue)) event.preventDefault();
    });
    const press = (id) => () => { if (!by("actions").hidden) by(id)?.click(); };
    return { a: press("approve"), r: press("open-reject"), e: press("edit"), j: press("older"), k: press("newer") };
  }

  const keys = inbox ? onList() : onPiece();
  // Browsers may bring a page back as it was left.
  window.addEventListener("pageshow", (event) => { if (event.persisted) isBusy = false; });
  document.addEventListener("keydown", (event) => {
    const isWriting = event.target.closest("textarea, select, dialog, input:not([type='checkbox'])");
    if (isWriting || event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
    event.preventDefault();
    // A key that is held down would decide about pieces that nobody has read.
    if (!isBusy && !event.repeat) keys[event.key]();
  });
})();
