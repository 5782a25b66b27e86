/* The frame of every chart: Bokeh's figure in our colours, a tip under the pointer, and drawing anew when the theme changes. */
const Charts = { drawn: new Map(), first: [] };

/* Charts.add("score", { wanted, build }): build(host) returns { plot, fits, fill, follow, words }: whether the frame fits the
   document that is shown now, what puts in its data, and what shows whom somebody follows. */
Charts.add = (id, chart) => {
  const draw = () => {
    if (!chart.wanted()) return;
    const host = chart.host ? chart.host() : reveal(id);
    Charts.drawn.get(id)?.views.then((views) => [views].flat().forEach((view) => view.remove()));
    const made = chart.build(host);
    made.fill();
    made.follow?.();
    host.replaceChildren();
    const views = Bokeh.Plotting.show(made.plot, host);
    const words = made.words;
    host.setAttribute("role", "img");
    host.setAttribute("aria-label", words);
    Charts.drawn.set(id, { ...made, views, host });
  };
  Charts.first.push(draw);
  Page.on("document", () => {
    const found = Charts.drawn.get(id);
    // The same frame takes new data; what has another one is drawn anew.
    if (!found || !chart.wanted() || !found.fits()) return draw();
    found.fill();
    found.follow?.();
  });
  Page.on("theme", draw);
  Page.on("followed", () => Charts.drawn.get(id)?.follow?.());
};

const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif';

Charts.figure = ({ height, xLabel, yLabel, log = false, xFormat, yFormat, xRange, yRange, bare = false, integers = true }) => {
  const about = { height, sizing_mode: "stretch_width", toolbar_location: null, tools: "", output_backend: "canvas", min_border_right: 12 };
  if (log) about.y_axis_type = "log";
  if (xRange) about.x_range = xRange;
  if (yRange) about.y_range = yRange;
  const plot = Bokeh.Plotting.figure(about);
  const [dim, hair] = [color("dim"), color("hair")];
  const clear = "rgba(0,0,0,0)";
  Object.assign(plot, { background_fill_color: clear, border_fill_color: clear, outline_line_color: null });
  for (const [axis, label, format] of [[plot.below[0], xLabel, xFormat], [plot.left[0], yLabel, yFormat]]) {
    Object.assign(axis, {
      visible: !bare, axis_line_color: null, major_tick_line_color: null, minor_tick_line_color: null, axis_label: label ?? null,
      axis_label_text_color: dim, axis_label_text_font: FONT, axis_label_text_font_size: "12.5px", axis_label_text_font_style: "normal",
      major_label_text_color: dim, major_label_text_font: FONT, major_label_text_font_size: "12px",
    });
    if (format) axis.formatter = format;
  }
  if (!bare && integers) plot.below[0].ticker = new Bokeh.BasicTicker({ min_interval: 1, desired_num_ticks: 7, num_minor_ticks: 0 });
  for (const grid of plot.center.filter((each) => each.type === "Grid")) {
    grid.grid_line_color = grid.dimension === 1 && !bare ? hair : null;
  }
  return plot;
};

Charts.source = (data) => new Bokeh.ColumnDataSource({ data });

const field = (name) => ({ field: name });

/* A tip that follows the pointer: told(x, y) returns its text, or null. */
Charts.tip = (plot, told, { over } = {}) => {
  const tip = byId("tip");
  plot.on_event("mousemove", (event) => {
    const text = told(event.x, event.y);
    tip.hidden = text === null;
    if (text === null) return;
    const host = over().getBoundingClientRect();
    tip.textContent = text;
    const half = tip.offsetWidth / 2 + 6;
    tip.style.left = `${Math.min(Math.max(host.left + scrollX + event.sx, half), document.documentElement.clientWidth - half)}px`;
    tip.style.top = `${host.top + scrollY + event.sy}px`;
  });
  plot.on_event("mouseleave", () => (tip.hidden = true));
};

/* Shares as percents, everything else as it is. */
Charts.scale = () => (Page.shown.score.percent ? 100 : 1);
Charts.scaled = (values) => values.map((value) => (value === null || value === undefined ? NaN : Charts.scale() * value));
Charts.scoreFormat = (values) => {
  if (!Page.shown.score.percent) return new Bokeh.BasicTickFormatter();
  const known = values.filter((value) => !Number.isNaN(value));
  const span = known.reduce((a, b) => Math.max(a, b), -Infinity) - known.reduce((a, b) => Math.min(a, b), Infinity);
  return new Bokeh.PrintfTickFormatter({ format: span < 6 ? "%.1f %%" : "%.0f %%" });
};

/* Bytes in the unit of the most. */
Charts.unit = (most) => {
  let [factor, unit] = [1, "B"];
  for (const name of ["kB", "MB", "GB", "TB"]) {
    if (most / factor < 1000) break;
    [factor, unit] = [factor * 1000, name];
  }
  return { factor, unit };
};

/* Shades for a score: the best is the strongest. */
const RAMP = 5;
Charts.shades = (steps = 100) => {
  const ends = Array.from({ length: RAMP }, (_, place) => rgb(color(`heat-${place}`)));
  return Array.from({ length: steps }, (_, place) => {
    const at = (place / (steps - 1)) * (RAMP - 1);
    const [left, part] = [Math.min(Math.floor(at), RAMP - 2), at - Math.min(Math.floor(at), RAMP - 2)];
    const mixed = ends[left].map((value, channel) => Math.round(value + part * (ends[left + 1][channel] - value)));
    return `#${mixed.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
  });
};

function rgb(hex) {
  const full = hex.length === 4 ? [...hex.slice(1)].map((digit) => digit + digit).join("") : hex.slice(1);
  return [0, 2, 4].map((start) => parseInt(full.slice(start, start + 2), 16));
}

/* The scale of all colours of a page, from the peers' scores; a narrower one would colour noise. */
Charts.span = () => {
  const { matrix, peers, score } = Page.shown;
  let [low, high] = [Infinity, -Infinity];
  for (const value of [...matrix.flat(), ...peers.score]) {
    if (value === null) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (!Number.isFinite(low)) return { low: 0, high: 1 };
  const least = score.percent ? 0.02 : 0.02 * Math.max(Math.abs(low), Math.abs(high)) || 1;
  if (high - low < least) [low, high] = score.higher_is_better ? [high - least, high] : [low, low + least];
  return { low, high };
};

/* Where a score stands between the worst and the best, 0 … 1. */
Charts.part = (value, { low, high }) => {
  const part = Math.min(1, Math.max(0, (value - low) / (high - low)));
  return Page.shown.score.higher_is_better ? part : 1 - part;
};

Charts.ramp = () => {
  const { low, high } = Charts.span();
  const [worst, best] = Page.shown.score.higher_is_better ? [low, high] : [high, low];
  const gone = Page.shown.down.some((spans) => spans.length) || Page.shown.peers.up.includes(false);
  return make("div", { class: "ramp" }, make("span", { text: scoreText(worst) }), make("i"), make("span", { text: scoreText(best) }),
    gone ? make("i", { class: "hatch end" }) : null, gone ? make("span", { text: "away" }) : null);
};
