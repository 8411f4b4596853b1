"use strict";
// The inbox and a piece's page: decisions go to the API; keys for those who read many.
(() => {
  const { call, tell } = window.pressroom;
  const inbox = document.getElementById("inbox");
  const piece = document.getElementById("piece");
  const dialog = document.getElementById("reject");
  const by = (id) => document.getElementById(id);

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

  // One after another: a decision about a thousand pieces is no burst of a thousand requests.
  async function decide(addresses, verb, body) {
    let done = 0;
    try {
      for (const address of addresses) {
        await call("POST", `${address}/${verb}`, body);
        done += 1;
        if (inbox) tell(inbox.dataset.progress.replace("{done}", done).replace("{all}", addresses.length), 0);
      }
      return true;
    } catch (error) {
      tell(error.message, 0);
      return false;
    }
  }

  function onList() {
    const rows = [...inbox.querySelectorAll("tr[data-piece]")];
    const chosen = () => rows.filter((row) => row.querySelector(".choose")?.checked);
    const address = (row) => `${inbox.dataset.content}/${row.dataset.piece}`;
    let current = -1;

    function count() {
      const number = chosen().length;
      const words = by("chosen").dataset;
      by("chosen").textContent = number ? words.some.replace("{count}", number) : words.none;
      for (const id of ["bulk-approve", "bulk-reject"]) by(id).disabled = number === 0;
    }

    function move(step) {
      rows[current]?.classList.remove("current");
      current = Math.max(0, Math.min(rows.length - 1, current + step));
      rows[current].classList.add("current");
      rows[current].querySelector(".open").focus();
    }

    async function act(targets, verb, body) {
      if (await decide(targets.map(address), verb, body)) location.reload();
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
    const finish = async (verb, body) => { if (await decide([content], verb, body)) location.assign(next); };
    const reject = async () => {
      const why = await askWhy();
      if (why) await finish("reject", why);
    };
    const edit = (isOn) => {
      by("editing").hidden = !isOn;
      by("reading").hidden = isOn;
      (isOn ? by("body") : by("edit")).focus();
    };
    by("approve")?.addEventListener("click", () => finish("approve"));
    by("open-reject")?.addEventListener("click", reject);
    by("edit")?.addEventListener("click", () => edit(true));
    by("drop")?.addEventListener("click", () => edit(false));
    by("editing")?.addEventListener("submit", async (event) => {
      event.preventDefault();
      try {
        await call("PATCH", content, Object.fromEntries(new FormData(by("editing"))));
        location.reload();
      } catch (error) {
        by("problem").textContent = error.message;
      }
    });
    return {
      a: () => by("approve")?.click(),
      r: () => by("open-reject")?.click(),
      e: () => by("edit")?.click(),
      j: () => by("older")?.click(),
      k: () => by("newer")?.click(),
    };
  }

  const keys = inbox ? onList() : onPiece();
  document.addEventListener("keydown", (event) => {
    const isWriting = event.target.closest("textarea, select, dialog, input:not([type='checkbox'])");
    if (isWriting || event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
})();
