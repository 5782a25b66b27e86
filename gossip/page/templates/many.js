/* Several runs: one table, one filter, curves by what differs. */
let runLines = new Map();
let runsShown = [];

const DASHES = ["none", "7 3", "9 3 2 3", "2 3"];

function plusMinus(value, std) {
  return [make("b", { text: scoreText(value) }), std === null ? "" : ` ± ${spreadText(std)}`];
}

function runsTable() {
  const { rows, headings, pooled, seeds, curves_max: most } = Page.shown;
  const places = rows.map((_, row) => row);
  const has = (key) => rows.some((row) => row[key] !== null);
  const name = (row) => (headings.length ? rows[row].cells.join(" · ") : rows[row].label);
  const lead = rows.length <= most ? (row) => stroke(color(`c${rows[row].colour}`), DASHES[rows[row].dash]) : () => null;
  const named = headings.length ? headings : ["run"];
  const cells = (row) => (headings.length ? rows[row].cells : [rows[row].label]);
  const columns = [
    ...named.map((head, place) => ({
      head, word: true, long: true, value: (row) => cells(row)[place],
      cell: (row) => (place ? cells(row)[place] : [lead(row), lead(row) ? " " : "", picker(cells(row)[0], row)]),
    })),
    { head: "rank", value: (row) => rows[row].rank, cell: (row) => rows[row].rank ?? NONE },
    { head: `${scoreLabel()}, mean ± sd`, value: (row) => rows[row].score, cell: (row) => plusMinus(rows[row].score, rows[row].std) },
    { head: "worst peer", value: (row) => rows[row].worst, cell: (row) => scoreText(rows[row].worst) },
    { head: "average model", wide: true, value: (row) => rows[row].of_mean, cell: (row) => scoreText(rows[row].of_mean) },
    has("own") && { head: "on own tests", value: (row) => rows[row].own, cell: (row) => plusMinus(rows[row].own, rows[row].own_std) },
    { head: "consensus distance", wide: true, value: (row) => rows[row].consensus, cell: (row) => numberText(rows[row].consensus) },
    { head: "sent in all", wide: true, value: (row) => rows[row].sent, cell: (row) => bytesText(rows[row].sent) },
    { head: "time", wide: true, value: (row) => rows[row].time, cell: (row) => secondsText(rows[row].time) },
    pooled && { head: "seeds", wide: true, value: (row) => rows[row].seeds, cell: (row) => rows[row].seeds },
  ].filter(Boolean);
  const made = sortable({ caption: "Runs", columns, rows: places, pick: Page.follow });
  runLines = made.lines;
  const spread = pooled ? (seeds ? "All that differs by its seed alone is one row, the mean of its seeds ± their standard deviation." : "") : "± is over the peers of a run.";
  reveal("runs", `Every ${scoreLabel()} is on the common test set, at the end of the run, of honest peers. ${spread} The average model is that of all peers’ models; no peer holds it.`).replaceChildren(made.element);
  runsShown = places;
  const filter = byId("runs-filter");
  filter.oninput = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    runsShown = places.filter((row) => words.every((word) => `${name(row)} ${rows[row].label}`.toLowerCase().includes(word)));
    for (const [row, line] of runLines) line.hidden = !runsShown.includes(row);
    Page.refilled?.();
  };
}

function runsSettings() {
  const body = reveal("settings", "As resolved.");
  body.replaceChildren(...Page.shown.settings.map(({ label, text, first }) =>
    make("details", {}, make("summary", { text: `${label}: scenario.toml${first ? ", of the first seed" : ""}` }), make("pre", { text, tabindex: "0" }))));
}

/* --- rules against attacks --- */

function comparison() {
  const found = Page.shown.comparison;
  if (!found) return;
  const several = found.runs.flat().some((count) => count > 1);
  const honest = found.attacks.some((name) => name.includes("honest"));
  const note = [
    `${capital(scoreLabel())} of honest peers${Page.shown.score.percent ? ", %" : ""}${several ? ": mean ± standard deviation over the seeds" : ""}, and below it the worst peer’s.`,
    honest ? "The columns have different numbers of honest peers, which learn from as many shards." : "",
    found.told.length ? `Told to the rules, by attack: ${found.told.join("; ")}.` : "",
  ].filter(Boolean).join(" ");
  const shades = found.shaded ? shade : null;
  const cell = (row, column) => {
    if (!found.runs[row][column]) return make("span", { text: NONE });
    const [mean, std, worst] = [found.mean, found.std, found.worst].map((values) => values[row][column]);
    return make("span", {}, spreadText(mean), found.runs[row][column] > 1 ? ` ± ${spreadText(std)}` : "", make("br"), make("span", { class: "small", text: spreadText(worst) }));
  };
  const table = plainTable("Which rule stands which attack", [found.rules.length > 1 ? "merge rule" : "", ...found.attacks],
    found.rules.map((rule, row) => [rule, ...found.attacks.map((_, column) => cell(row, column))]));
  if (shades) {
    table.querySelectorAll("tbody tr").forEach((line, row) => line.querySelectorAll("td").forEach((box, column) => {
      const value = found.mean[row][column];
      if (value !== null) box.style.background = shades(value);
    }));
  }
  reveal("comparison", note).replaceChildren(table);
}

/* From nothing to all: a wash of warm to a wash of accent, under which words stay legible. */
function shade(value) {
  const strength = Math.round(Math.abs(value - 0.5) * 70);
  return `color-mix(in srgb, var(--${value < 0.5 ? "warm" : "accent"}) ${strength}%, transparent)`;
}

/* --- runs of a sweep that go on --- */

function underWay() {
  const { running = [], running_more: more = 0 } = Page.shown;
  byId("running").hidden = !running.length;
  if (!running.length) return;
  const score = (run, value) => (run.scored === null ? NONE : scoreTextOf(value, run.scored));
  const place = (run) => {
    const share = run.rounds ? Math.min(1, run.round / run.rounds) : 0;
    return make("span", {}, run.step ?? `${run.round} / ${run.rounds}`,
      run.step === null ? make("span", { class: "meter", "aria-hidden": "true" }, make("i", { style: { width: `${(100 * share).toFixed(1)}%` } })) : null);
  };
  const heads = ["run", "round", running.find((run) => run.scored)?.scored.label ?? "score", "worst peer", "sent", "still takes"];
  const rows = running.map((run) => [
    run.label, place(run), score(run, run.score), score(run, run.worst), bytesText(run.sent), run.left === null ? NONE : `about ${leftText(run.left)}`]);
  const note = more ? ` ${more} more are under way.` : "";
  reveal("running", `Runs that are done by this machine, as they said last.${note}`).replaceChildren(plainTable("Runs under way", heads, rows));
}

Page.on("document", () => {
  underWay();
  if (Page.shown.kind !== "runs") return;
  comparison();
  runsTable();
  runsSettings();
});
Page.on("theme", () => Page.shown.kind === "runs" && runsTable());
Page.on("followed", () => Page.shown.kind === "runs" && mark(runLines));
