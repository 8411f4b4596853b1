"use strict";
// A task while it moves: its text as the model writes it, its progress, and each change of its state.
(() => {
  const live = document.getElementById("live");
  const text = document.getElementById("live-text");
  const none = document.getElementById("live-none");
  let written = "";
  let characters = 0;

  // Offsets count characters, of which some are two units of a JavaScript string.
  function write(offset, piece) {
    if (offset !== characters) written = [...written].slice(0, offset).join("");
    written += piece;
    characters = offset + [...piece].length;
  }

  const events = new EventSource(live.dataset.stream);
  events.addEventListener("text", (event) => {
    const { offset, text: piece } = JSON.parse(event.data);
    const follows = text.scrollHeight - text.scrollTop - text.clientHeight < 40;
    write(offset, piece); // a new attempt begins anew, at 0
    text.textContent = written;
    text.hidden = written === "";
    none.hidden = written !== "";
    if (follows) text.scrollTop = text.scrollHeight;
  });
  events.addEventListener("progress", (event) => {
    const { percent, message } = JSON.parse(event.data);
    document.getElementById("live-progress").value = percent;
    document.getElementById("live-percent").textContent = `${percent} %`;
    document.getElementById("live-message").textContent = message ?? "";
  });
  events.addEventListener("state", () => { window.pressroom.refresh().catch(() => {}); });
  events.addEventListener("error", () => {
    // It connects again by itself, but not where it was refused: too many watch.
    if (events.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 5000);
  });
  events.addEventListener("end", async () => {
    events.close(); // or it connects again
    await window.pressroom.refresh().catch(() => {});
    live.hidden = true;
  });
})();
