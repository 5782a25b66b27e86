/* Lines over rounds, time or bytes: the score, and how far the models agree. */

const AXES = { round: "round", time: "seconds", bytes: "bytes" };

/* The x axis of all curves: {values, label, factor}. */
function across(curve = Page.shown.curve) {
  const axis = curve[Page.axis]?.length ? Page.axis : "round";
  const values = curve[axis];
  if (axis !== "bytes") return { values, factor: 1, label: axis === "time" ? "seconds" : "round" };
  const { factor, unit } = Charts.unit(values.at(-1) ?? 0);
  return { values: values.map((value) => value / factor), factor, label: `${unit} sent by ${Page.shown.senders} together` };
}

function nearest(values, x) {
  let best = 0;
  values.forEach((value, place) => {
    if (Math.abs(value - x) < Math.abs(values[best] - x)) best = place;
  });
  return best;
}

function faultLines(plot) {
  const factor = across().factor;
  for (const fault of Page.shown.faults) {
    const location = fault[Page.axis] / factor;
    plot.add_layout(new Bokeh.Span({ location, dimension: "height", line_color: color("warm"), line_dash: "dashed", line_width: 1.3, line_alpha: 0.8 }));
  }
}

function scoreLegend() {
  const { curve, faults, alone } = Page.shown;
  const accent = color("accent");
  const entry = (mark, text) => make("span", {}, mark, text);
  const entries = [entry(stroke(accent), Page.shown.words?.mean ?? "mean")];
  if (curve.min.length) entries.push(entry(make("i", { class: "swatch", style: { background: color("accent"), opacity: 0.2 } }), "worst to best peer"));
  if (curve.low) entries.push(entry(make("i", { class: "swatch", style: { background: color("accent"), opacity: 0.45 } }), "four peers of five"));
  if (curve.of_mean.length) entries.push(entry(stroke(color("ink"), "2 3", 1.8), "average of all models"));
  if (curve.own.length) entries.push(entry(stroke(color("c2")), "mean on own tests"));
  if (curve.prototypes?.length) entries.push(entry(stroke(color("c3"), "6 3"), "nearest prototypes"));
  if (alone) entries.push(entry(stroke(color("away"), "7 4", 1.8), "learning alone, mean"));
  if (faults.length) entries.push(entry(stroke(color("warm"), "4 3", 1.6), "fault"));
  if (Page.followed !== null) entries.push(entry(stroke(color("warm")), Page.shown.peers.name[Page.followed]));
  byId("score-legend").replaceChildren(...entries);
}

function scoreChart(host) {
  const source = Charts.source({ x: [], mean: [], min: [], max: [], low: [], high: [], of_mean: [], own: [], prototypes: [], alone: [] });
  const mine = Charts.source({ x: [], y: [] });
  const [accent, ink] = [color("accent"), color("ink")];
  const { curve, alone } = Page.shown;
  const all = Charts.scaled([...curve.min, ...curve.mean, ...curve.max]);
  const plot = Charts.figure({ height: 345, xLabel: across().label, yFormat: Charts.scoreFormat(all), integers: Page.axis === "round" });
  if (curve.min.length) plot.varea(field("x"), field("min"), field("max"), { source, fill_color: accent, fill_alpha: 0.13 });
  if (curve.low) plot.varea(field("x"), field("low"), field("high"), { source, fill_color: accent, fill_alpha: 0.22 });
  faultLines(plot);
  if (alone) plot.line(field("x"), field("alone"), { source, line_color: color("away"), line_width: 2, line_dash: [7, 4] });
  if (curve.own.length) plot.line(field("x"), field("own"), { source, line_color: color("c2"), line_width: 2 });
  if (curve.prototypes?.length) plot.line(field("x"), field("prototypes"), { source, line_color: color("c3"), line_width: 2, line_dash: [6, 3] });
  plot.line(field("x"), field("mean"), { source, line_color: accent, line_width: 2.4 });
  if (curve.mean.length < 3) plot.scatter(field("x"), field("mean"), { source, fill_color: accent, line_color: null, size: 7 });
  if (curve.of_mean.length) plot.line(field("x"), field("of_mean"), { source, line_color: ink, line_width: 1.7, line_dash: [2, 3] });
  plot.line(field("x"), field("y"), { source: mine, line_color: color("warm"), line_width: 2.2 });

  const fill = () => {
    const { curve: found } = Page.shown;
    const some = (values) => (values?.length ? Charts.scaled(values) : found.round.map(() => NaN));
    plot.below[0].axis_label = across().label;
    source.data = { x: across().values, ...Object.fromEntries(["mean", "min", "max", "low", "high", "of_mean", "own", "prototypes"].map((key) => [key, some(found[key])])), alone: found.round.map(() => (alone ? Charts.scale() * alone.mean : NaN)) };
    byId("score-title").textContent = capital(scoreLabel());
    byId("score-note").textContent = Page.shown.words?.curve ?? "On the common test set, after each round’s last merge.";
  };
  const follow = () => {
    const row = Page.followed;
    const { points, matrix } = Page.shown;
    const places = row === null ? [] : points.map((point, column) => [point, matrix[row][column]]).filter(([, value]) => value !== null);
    mine.data = { x: places.map(([point]) => across().values[point]), y: Charts.scaled(places.map(([, value]) => value)) };
    scoreLegend();
  };
  Charts.tip(plot, (x) => {
    const { curve: found } = Page.shown;
    if (!found.round.length) return null;
    const at = nearest(across().values, x);
    const lines = [`round ${found.round[at]} · ${secondsText(found.time[at])} · ${bytesText(found.bytes[at])}`, `${Page.shown.words?.mean ?? "mean"} ${scoreText(found.mean[at])}`];
    if (found.min.length) lines.push(`${scoreText(found.min[at])} to ${scoreText(found.max[at])}`);
    if (found.of_mean.length) lines.push(`average of all ${scoreText(found.of_mean[at])}`);
    if (found.own.length) lines.push(`on own tests ${scoreText(found.own[at])}`);
    if (found.prototypes?.length) lines.push(`nearest prototypes ${scoreText(found.prototypes[at])}`);
    return lines.join("\n");
  }, { over: () => host });
  const last = curve.mean.at(-1);
  const words = `${capital(scoreLabel())} against ${AXES[Page.axis]}: the mean ends at ${scoreText(last)}, after ${curve.round.at(-1) ?? 0} rounds`;
  return { plot, fits: alike(), fill, follow, words };
}

/* Frames of curves fit as long as the same lines are there, and no faults have come. */
const alike = () => {
  const kind = () => JSON.stringify([Object.entries(Page.shown.curve).map(([name, values]) => [name, values.length > 0]), Page.shown.alone, Page.shown.faults]);
  const first = kind();
  return () => kind() === first;
};

/* What a logarithmic axis numbers: within a decade or two, powers of ten alone would leave it bare. */
function numberLog(plot, values) {
  const known = values.filter((value) => value > 0);
  const [low, high] = [known.reduce((a, b) => Math.min(a, b), Infinity), known.reduce((a, b) => Math.max(a, b), 0)];
  const steps = high / low < 4 ? [1, 1.5, 2, 3, 4, 5, 6, 8] : high / low < 300 ? [1, 2, 5] : [1];
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    ticks.push(...steps.map((step) => Number((step * 10 ** power).toPrecision(3))));
  }
  const grid = ticks.filter((tick) => low / 1.3 < tick && tick < high * 1.3);
  plot.left[0].ticker = new Bokeh.FixedTicker({ ticks: grid });
  for (const lines of plot.center) if (lines.dimension === 1) lines.ticker = plot.left[0].ticker;
  plot.left[0].major_label_overrides = new Map(grid.map((tick) => [tick, String(tick)]));
}

function agreementChart(host) {
  const source = Charts.source({ x: [], after: [], before: [] });
  const { curve } = Page.shown;
  const plot = Charts.figure({ height: Math.max(290, heatHeight(Page.shown.matrix.length) + 20), xLabel: across().label, log: true, integers: Page.axis === "round", yFormat: new Bokeh.BasicTickFormatter({ use_scientific: false }) });
  faultLines(plot);
  plot.line(field("x"), field("before"), { source, line_color: color("away"), line_width: 1.8 });
  plot.line(field("x"), field("after"), { source, line_color: color("accent"), line_width: 2.3 });
  const fill = () => {
    const { curve: found } = Page.shown;
    // At distance zero there is no logarithm.
    const some = (values) => (values.length ? values.map((value) => (value > 0 ? value : NaN)) : found.round.map(() => NaN));
    plot.below[0].axis_label = across().label;
    numberLog(plot, [...found.consensus, ...found.before]);
    source.data = { x: across().values, after: some(found.consensus), before: some(found.before) };
    const entries = [make("span", {}, stroke(color("accent")), "after merging")];
    if (found.before.length) entries.push(make("span", {}, stroke(color("away")), "before"));
    byId("agreement-legend").replaceChildren(...entries);
    if (!found.before.length) byId("agreement-note").textContent = "Distance of the models from their mean, after merging.";
  };
  Charts.tip(plot, (x) => {
    const { curve: found } = Page.shown;
    const at = nearest(across().values, x);
    const before = found.before.length ? `\nbefore ${numberText(found.before[at])}` : "";
    return `round ${found.round[at]}\nafter merging ${numberText(found.consensus[at])}${before}`;
  }, { over: () => host });
  const words = `Distance of the models from their mean: ${numberText(curve.consensus.at(-1))} at the end`;
  return { plot, fits: alike(), fill, words };
}

const single = () => Page.shown.kind === "run";
Charts.add("score", { wanted: () => single() && Page.shown.curve.mean.length > 0, build: scoreChart });
Charts.add("agreement", { wanted: () => single() && Page.shown.curve.consensus.some((value) => value > 0), build: agreementChart });

byId("score-axis").addEventListener("click", (event) => {
  const axis = event.target.dataset?.axis;
  if (!axis) return;
  Page.axis = axis;
  for (const button of byId("score-axis").children) button.setAttribute("aria-pressed", String(button.dataset.axis === axis));
  // Every x axis changes its scale and its words: as good as another theme.
  Page.tell("theme");
});
