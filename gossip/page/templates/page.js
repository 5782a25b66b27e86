/* Charts of several runs, and the start. */

const BANDS_MAX = 9; // more bands are a fog
const BOKEH_DASHES = [[], [7, 3], [9, 3, 2, 3], [2, 3]];

function manyChart(host) {
  const { rows, curves_max: most, legend, pooled } = Page.shown;
  const label = across(rows[0].curve).label;
  const plot = Charts.figure({ height: 330, xLabel: label, yFormat: Charts.scoreFormat(Charts.scaled(rows.flatMap((row) => row.curve.mean ?? []))), integers: Page.axis === "round" });
  const banded = rows.length <= BANDS_MAX;
  const { factor, unit } = Charts.unit(Math.max(...rows.map((row) => row.curve.bytes?.at(-1) ?? 0)));
  if (Page.axis === "bytes") plot.below[0].axis_label = `${unit} sent by ${Page.shown.senders} together`;
  const drawn = rows.map((row) => {
    const { curve } = row;
    const x = (curve[Page.axis] ?? curve.round).map((value) => (Page.axis === "bytes" ? value / factor : value));
    const none = x.map(() => NaN);
    const some = (values) => (values ? Charts.scaled(values) : none);
    const source = Charts.source({ x, mean: some(curve.mean), min: some(curve.min), max: some(curve.max) });
    const tint = color(`c${row.colour}`);
    const band = banded && curve.min ? plot.varea(field("x"), field("min"), field("max"), { source, fill_color: tint, fill_alpha: 0.12 }) : null;
    const line = plot.line(field("x"), field("mean"), { source, line_color: tint, line_width: 2.1, line_dash: BOKEH_DASHES[row.dash] });
    return { band, line, row };
  });
  const follow = () => {
    const seen = new Set(runsShown.slice(0, most));
    drawn.forEach(({ band, line }, place) => {
      line.visible = seen.has(place);
      if (band) band.visible = seen.has(place);
      const chosen = Page.followed === place;
      line.glyph.line_width = chosen ? 3.4 : 2.1;
      line.glyph.line_alpha = Page.followed === null || chosen ? 1 : 0.25;
    });
  };
  Page.refilled = follow;
  const entries = legend.flat().map((entry) => make("span", {}, stroke(entry.colour === null ? color("ink") : color(`c${entry.colour}`), entry.stroke), entry.label));
  byId("score-legend").replaceChildren(...entries);
  byId("score-title").textContent = capital(scoreLabel());
  const bandText = banded ? `; the band reaches from ${pooled ? "the lowest to the highest seed" : "the worst to the best peer"}` : "";
  const cut = rows.length > most ? ` The first ${most} rows of the filter are drawn.` : "";
  byId("score-note").textContent = `Mean of the peers’ own models${bandText}.${cut}`;
  Charts.tip(plot, (x, y) => {
    let [best, distance, at] = [null, Infinity, 0];
    drawn.forEach(({ line, row }) => {
      if (!line.visible) return;
      const data = line.data_source.data;
      const place = nearest(data.x, x);
      const apart = Math.abs(data.mean[place] - y);
      if (apart < distance) [best, distance, at] = [row, apart, place];
    });
    return best === null ? null : `${best.label}\nround ${best.curve.round[at]}: ${scoreText(best.curve.mean[at])}`;
  }, { over: () => host });
  return { plot, fits: () => false, fill: () => {}, follow, words: `${capital(scoreLabel())} of ${rows.length} rows against ${AXES[Page.axis]}; the table has how they end` };
}

function manyAgreement() {
  const { rows } = Page.shown;
  const plot = Charts.figure({ height: 330, xLabel: "round", log: true, yFormat: new Bokeh.BasicTickFormatter({ use_scientific: false }) });
  numberLog(plot, rows.flatMap((row) => row.curve.consensus ?? []));
  const lines = rows.slice(0, Page.shown.curves_max).map(({ curve, colour, dash }) => {
    const known = (curve.consensus ?? []).map((value, place) => [curve.round[place], value]).filter(([, value]) => value > 0);
    const source = Charts.source({ x: known.map(([round]) => round), y: known.map(([, value]) => value) });
    return plot.line(field("x"), field("y"), { source, line_color: color(`c${colour}`), line_width: 2, line_dash: BOKEH_DASHES[dash] });
  });
  const follow = () => lines.forEach((line, place) => (line.glyph.line_alpha = Page.followed === null || Page.followed === place ? 1 : 0.25));
  byId("agreement-note").textContent = "How far the models are from their mean, over the parameters that are learned.";
  return { plot, fits: () => false, fill: () => {}, follow, words: "Consensus distance of each row against rounds" };
}

function manyTraffic() {
  const { rows } = Page.shown;
  const totals = new Map();
  for (const row of rows) for (const [kind, count] of Object.entries(row.traffic)) totals.set(kind, (totals.get(kind) ?? 0) + count);
  const kinds = [...totals].sort((a, b) => b[1] - a[1]).map(([kind]) => kind).slice(0, 8);
  if (!kinds.length || rows.length > Page.shown.curves_max) return;
  const table = plainTable("Bytes by kind of message", ["", ...kinds], rows.map((row) => [row.label, ...kinds.map((kind) => bytesText(row.traffic[kind]))]));
  reveal("traffic").replaceChildren(table);
}

const many = () => Page.shown.kind === "runs";
Charts.add("score-many", { wanted: () => many() && Page.shown.rows.some((row) => row.curve.mean), host: () => reveal("score"), build: manyChart });
Charts.add("agreement-many", { wanted: () => many() && Page.shown.rows.some((row) => row.curve.consensus?.some((value) => value > 0)), host: () => reveal("agreement"), build: manyAgreement });
Charts.first.push(() => many() && manyTraffic());

/* What needs no charts is there already; the charts follow once the browser has painted it. */
requestAnimationFrame(() => setTimeout(() => {
  Charts.first.forEach((draw) => draw());
  document.documentElement.dataset.drawn = "true";
}));
