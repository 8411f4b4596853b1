"use strict";
// A task while it moves: its text as the model writes it, its progress, and each change of its state.
(() => {
  const { refresh, tell } = window.pressroom;
  const live = document.getElementById("live");
  const text = document.getElementById("live-text");
  const none = document.getElementById("live-none");
  const stream = new URL(live.dataset.stream, location);
  let events = null;
  let isOver = false;
  let written = "";
  let characters = 0;

  // Offsets count characters, of which some are two units of a JavaScript string.
  function write(offset, piece) {
    if (offset !== characters) written = [...written].slice(0, offset).join("");
    written += piece;
    characters = offset + [...piece].length;
  }

  const heard = {
    text({ offset, text: piece }) {
      const follows = text.scrollHeight - text.scrollTop - text.clientHeight < 40;
      write(offset, piece); // a new attempt begins anew, at 0
      text.textContent = written;
      text.hidden = written === "";
      none.hidden = written !== "";
      if (follows) text.scrollTop = text.scrollHeight;
    },
    progress({ percent, message }) {
      document.getElementById("live-progress").value = percent;
      document.getElementById("live-percent").textContent = `${percent} %`;
      document.getElementById("live-message").textContent = message ?? "";
    },
    state({ id }) {
      stream.searchParams.set("after", id);
      refresh().catch(() => {}); // the next one, or the end, makes up for it
    },
    end() {
      isOver = true;
      events.close(); // or it connects again
      finish();
    },
  };

  async function finish() {
    try {
      await refresh();
    } catch {
      setTimeout(finish, 3000);
      return;
    }
    live.hidden = true;
    tell(document.querySelector("#head h1").textContent);
  }

  function watch() {
    events = new EventSource(stream);
    for (const [kind, hear] of Object.entries(heard)) {
      events.addEventListener(kind, (event) => hear(JSON.parse(event.data)));
    }
    events.addEventListener("error", (event) => {
      // It connects again by itself, but not where it was refused: too many watch.
      if (event.target.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 5000);
    });
  }

  // Browsers keep six connections to a host: a page that nobody sees does without, and goes on where it was.
  function look() {
    events?.close();
    if (!document.hidden && !isOver) watch();
  }

  document.addEventListener("visibilitychange", look);
  look();
})();
