/* What needs no charts: the head, figures at a glance, events, bars, settings, the command. */

function head() {
  const { progress, warnings, machines } = Page.shown;
  byId("lead").textContent = Page.shown.lead;
  byId("state").textContent = Page.shown.state;
  byId("state").className = `chip ${Page.shown.state === "finished" ? "good" : Page.shown.state === "running" ? "going" : ""}`;
  byId("progress").hidden = !progress;
  if (progress) {
    const share = progress.of ? Math.min(1, progress.done / progress.of) : 0;
    byId("progress-now").textContent = `${progress.what ?? "round"} ${progress.done} / ${progress.of}`;
    byId("progress-bar").setAttribute("aria-valuemax", progress.of);
    byId("progress-bar").setAttribute("aria-valuenow", progress.done);
    byId("progress-bar").firstElementChild.style.width = `${(100 * share).toFixed(1)}%`;
    byId("progress-took").textContent = progress.left !== null && progress.left !== undefined ? `about ${leftText(progress.left)} to go` : progress.took ? `took ${progress.took}` : "";
  }
  byId("warnings").replaceChildren(...warnings.map((text) => make("p", { class: "warning" }, make("b", { text: "warning " }), text)));
  byId("machines").replaceChildren(...machines.map((text) => make("div", { text })));
}

function facts() {
  const { facts: found, curve, peers } = Page.shown;
  const cards = found.map((fact) => {
    let { value, unit, note } = fact;
    if (fact.bytes !== undefined) {
      [value, unit] = bytesText(fact.bytes).split(" ");
      note = fact.received === undefined ? `${bytesText(fact.each)} a peer` : `received ${bytesText(fact.received)}`;
    }
    const drawn = fact.spark && curve[fact.spark].length ? spark(curve[fact.spark], { width: 120, height: 46, area: true }) : null;
    return make("div", { class: "fact" }, make("p", { text: fact.what }), make("b", { text: value }, unit ? make("small", { text: unit }) : null), make("span", { text: note }), drawn);
  });
  if (!Page.shown.sampled) {
    const up = peers.up.filter(Boolean).length;
    const gone = peers.name.filter((_, row) => !peers.up[row]);
    const note = gone.length === 0 ? (Page.shown.state === "finished" ? "to the end" : "all of them") : gone.length > 3 ? `${gone.length} gone` : `${gone.join(", ")} gone`;
    cards.push(make("div", { class: "fact" }, make("p", { text: "peers up" }), make("b", { text: up }, make("small", { text: `of ${peers.up.length}` })), make("span", { text: note })));
  }
  byId("facts").replaceChildren(...cards);
  byId("facts").hidden = false;
}

function story() {
  const { lines, more } = Page.shown.events;
  if (!lines.length) return;
  const items = lines.map((line) => make("li", { class: line.kind }, make("time", { text: secondsText(line.time) }), make("div", {}, make("b", { text: line.text }), line.detail || null)));
  const body = reveal("events", more ? `The last ${lines.length}; ${more} earlier ones are in events.jsonl.` : "");
  body.replaceChildren(make("ol", { class: "story", tabindex: "0", "aria-label": "What happened, the last first" }, ...items));
}

function bars(entries, told) {
  const most = Math.max(...entries.map(([, value]) => value), 0) || 1;
  return make("dl", { class: "bars" }, ...entries.flatMap(([name, value]) => [
    make("dt", { text: name }),
    make("dd", { class: "meter", "aria-hidden": "true" }, make("i", { style: { width: `${Math.max(1, (100 * value) / most).toFixed(1)}%` } })),
    make("dd", { text: told(value) }),
  ]));
}

function traffic() {
  const { bytes, phases, payload } = Page.shown;
  if (!bytes.length && !phases.length) return;
  const body = reveal("traffic");
  const parts = [bars(bytes.map(({ kind, bytes: count }) => [kind, count]), bytesText)];
  if (payload) parts.push(make("p", { class: "note", text: `${(100 * payload).toFixed(2)} % of the protocol’s bytes are tensors.`, style: { "margin-top": "10px" } }));
  if (phases.length) {
    parts.push(make("h3", { text: "A round’s time" }), make("p", { class: "note", text: Page.shown.words?.phases ?? "Median." }));
    parts.push(bars(phases.map(({ phase, seconds }) => [phase, seconds]), secondsText));
  }
  body.replaceChildren(...parts);
}

/* Whether a part of the document is another than the last time: what stays is left alone, opened or selected as it may be. */
const seen = new Map();
function isNew(key) {
  const text = JSON.stringify(Page.shown[key]);
  if (seen.get(key) === text) return false;
  seen.set(key, text);
  return true;
}

function settings() {
  if (!isNew("settings") || !Page.shown.settings) return;
  const { changed, text, description } = Page.shown.settings;
  // It was written before anybody changed a setting.
  const body = reveal("settings", description ? `What the scenario says of itself: ${description}.` : "");
  const parts = [];
  if (changed.length) {
    parts.push(make("p", { class: "note", text: "What differs from the algorithm’s own defaults:" }));
    parts.push(plainTable("Settings that differ from the defaults", ["setting", "here", "by default"], changed.map(({ key, value, default: usual }) => [key, value, usual])));
  }
  parts.push(make("details", {}, make("summary", { text: "scenario.toml, as resolved" }), make("pre", { text, tabindex: "0" })));
  body.replaceChildren(...parts);
}

function again() {
  if (!isNew("command") || !Page.shown.command) return;
  const copy = make("button", { type: "button", class: "plain", text: "copy" });
  const line = make("pre", { text: Page.shown.command, tabindex: "0" });
  copy.addEventListener("click", () => {
    getSelection().selectAllChildren(line);
    if (document.execCommand("copy")) copy.textContent = "copied";
    getSelection().removeAllRanges();
  });
  reveal("again").replaceChildren(make("div", { class: "command" }, line, copy));
}

function senders() {
  const { attack } = Page.shown;
  if (!isNew("attack") || !attack) return;
  const rows = attack.senders.map((each) => [
    make("span", {}, each.sender, each.attacks ? make("b", { class: "bad", text: " attacks" }) : ""), each.models, each.accepted, each.reasons]);
  if (attack.others) rows.push(["further senders", attack.others.models, attack.others.accepted, attack.others.reasons]);
  const worked = attack.success === null ? "" : ` The backdoor worked on ${(100 * attack.success).toFixed(1)} % of the samples that carry its trigger.`;
  const none = rows.length ? " Counted at the honest peers: by the rule, or before it." : " The rule tells nothing of single models.";
  const body = reveal("senders", `The attack was ${attack.kind}, by ${attack.attackers.length} peers: ${attack.attackers.slice(0, 12).join(", ")}${attack.attackers.length > 12 ? ", …" : ""}.${worked}${none}`);
  if (rows.length) body.replaceChildren(plainTable("What became of each peer’s models", ["sender", "models", "accepted", "left out or pulled back, by reason"], rows));
}

Page.on("document", () => {
  head();
  if (Page.shown.kind !== "run") return;
  facts();
  // Of a thousand peers it is most of the page; the figures above it come first.
  requestAnimationFrame(() => setTimeout(peersTable));
  story();
  traffic();
  settings();
  again();
  senders();
});
