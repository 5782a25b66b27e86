/* A page of what still goes on: it is sent later documents, and draws the newest. */
const Stream = { source: new EventSource("events"), waiting: null, paused: false, ended: false };

Stream.draw = () => {
  if (Stream.waiting === null || Stream.paused || document.hidden) return;
  const text = Stream.waiting;
  Stream.waiting = null;
  Page.show(JSON.parse(text));
};

Stream.say = (text, kind) => {
  byId("state").textContent = text;
  byId("state").className = `chip ${kind}`;
};

Stream.source.addEventListener("document", (event) => {
  Stream.waiting = event.data;
  requestAnimationFrame(Stream.draw);
});
Stream.source.addEventListener("end", () => {
  Stream.source.close();
  Stream.ended = true;
  byId("pause").hidden = !Stream.paused;
});
Stream.source.addEventListener("error", () => {
  if (!Stream.ended) Stream.say("nobody answers", "lost");
});
document.addEventListener("visibilitychange", Stream.draw);
byId("pause").addEventListener("click", () => {
  Stream.paused = !Stream.paused;
  byId("pause").setAttribute("aria-pressed", String(Stream.paused));
  byId("pause").textContent = Stream.paused ? "▶" : "❚❚";
  if (Stream.paused) Stream.say("view paused", "");
  else {
    head();
    Stream.draw();
    byId("pause").hidden = Stream.ended;
  }
});
