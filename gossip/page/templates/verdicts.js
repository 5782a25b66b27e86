/* What became of each peer's models over time; only where somebody attacks. */

const judged = () => single() && Page.shown.attack?.verdicts;

function weightsChart(host) {
  const { senders, attacks, rounds, weight } = judged();
  const plot = Charts.figure({ height: 260, xLabel: "round", yRange: new Bokeh.DataRange1d({ start: 0 }) });
  senders.forEach((_, row) => {
    const known = rounds.map((round, column) => [round, weight[row][column]]).filter(([, value]) => value !== null);
    const source = Charts.source({ x: known.map(([round]) => round), y: known.map(([, value]) => value) });
    const tint = color(attacks[row] ? "warm" : "accent");
    plot.line(field("x"), field("y"), { source, line_color: tint, line_width: attacks[row] ? 1.8 : 1.2, line_alpha: attacks[row] ? 0.95 : 0.55, line_dash: attacks[row] ? [6, 3] : [] });
    if (known.length < 3) plot.scatter(field("x"), field("y"), { source, fill_color: tint, line_color: null, size: 5 });
  });
  byId("weights-legend").replaceChildren(
    make("span", {}, stroke(color("accent")), "an honest peer each"), make("span", {}, stroke(color("warm"), "6 3"), "an attacker each"));
  Charts.tip(plot, (x, y) => {
    const column = nearest(rounds, x);
    let [best, distance] = [null, Infinity];
    senders.forEach((_, row) => {
      const value = weight[row][column];
      if (value !== null && Math.abs(value - y) < distance) [best, distance] = [row, Math.abs(value - y)];
    });
    return best === null ? null : `${senders[best]}${attacks[best] ? ", attacks" : ""}, round ${rounds[column]}\nweight ${numberText(weight[best][column])}`;
  }, { over: () => host });
  return { plot, fits: () => false, fill: () => {}, words: "Mean weight of each sender’s models in the merges of honest peers, by round" };
}

function verdictsChart(host) {
  const { senders, attacks, rounds, left_out: out } = judged();
  const [rows, columns] = [senders.length, rounds.length];
  const plot = Charts.figure({ height: Math.max(180, 70 + 15 * rows), xLabel: "round" });
  plot.x_range = new Bokeh.Range1d({ start: 0, end: columns });
  plot.y_range = new Bokeh.Range1d({ start: rows, end: 0 });
  const cells = new Float64Array(out.flat().map((value) => value ?? NaN));
  const ends = [rgb(color("wash")), rgb(color("warm"))];
  const palette = Array.from({ length: 50 }, (_, place) => `#${ends[0].map((value, channel) => Math.round(value + (place / 49) * (ends[1][channel] - value)).toString(16).padStart(2, "0")).join("")}`);
  const mapper = new Bokeh.LinearColorMapper({ palette, low: 0, high: 1, nan_color: color("well") });
  // Row 0 is at y = 0, and the axis points down.
  plot.image({ image: field("image"), x: 0, y: 0, dw: columns, dh: rows, source: Charts.source({ image: [Charts.grid(cells, rows, columns)] }), color_mapper: mapper });
  const step = Math.max(1, Math.ceil(columns / 9));
  const ticks = rounds.map((_, column) => column).filter((column) => column % step === 0);
  plot.below[0].ticker = new Bokeh.FixedTicker({ ticks: ticks.map((column) => column + 0.5) });
  plot.below[0].major_label_overrides = new Map(ticks.map((column) => [column + 0.5, String(rounds[column])]));
  plot.left[0].ticker = new Bokeh.FixedTicker({ ticks: senders.map((_, row) => row + 0.5) });
  plot.left[0].major_label_overrides = new Map(senders.map((name, row) => [row + 0.5, `${attacks[row] ? "▸ " : ""}${name}`]));
  for (const grid of plot.center) grid.grid_line_color = null;
  Charts.tip(plot, (x, y) => {
    const [row, column] = [Math.floor(y), Math.floor(x)];
    if (!(row >= 0 && row < rows && column >= 0 && column < columns)) return null;
    const value = out[row][column];
    return `${senders[row]}${attacks[row] ? ", attacks" : ""}, round ${rounds[column]}\n${value === null ? "nobody judged it" : `${(100 * value).toFixed(0)} % left it out`}`;
  }, { over: () => host });
  byId("verdicts-legend").replaceChildren(
    make("span", {}, make("i", { class: "swatch", style: { background: color("wash") } }), "all took it"),
    make("span", {}, make("i", { class: "swatch", style: { background: color("warm") } }), "all left it out"), make("span", { text: "▸ attacks" }));
  return { plot, fits: () => false, fill: () => {}, words: "Share of the honest peers that left out each sender, by round; the table below has the sums" };
}

Charts.add("weights", { wanted: judged, build: weightsChart });
Charts.add("verdicts", { wanted: judged, build: verdictsChart });
