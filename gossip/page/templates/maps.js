/* Peers on a plane, peers by rounds, and whose data. */

/* Whether a peer was away at a column of the matrix. */
function away(row, column) {
  const point = Page.shown.points[column];
  return Page.shown.down[row].some(([first, last]) => first <= point && point <= last);
}

/* A peer's last score at a column or before; at the last one, its score at the end. */
function scoreAt(row, column) {
  const { matrix, points, peers } = Page.shown;
  if (column === points.length - 1 && peers.score[row] !== null) return peers.score[row];
  for (let place = column; place >= 0; place -= 1) if (matrix[row][place] !== null) return matrix[row][place];
  return null;
}

const LABEL_MAX = 14;
const last = () => Page.shown.points.length - 1;
let shownColumn = null; // of the network's slider; null: the last

function networkChart(host) {
  let { network, peers } = Page.shown;
  const [count, wires] = [peers.name.length, network.links.length];
  const links = Charts.source({ x: [], y: [], width: [], alpha: [], tint: [] });
  const dots = Charts.source({ x: [], y: [], fill: [], edge: [], alpha: [], name: [], ink: [], weight: [] });
  const plot = Charts.figure({ height: 300, bare: true });
  // What does not fit a dot stands below it.
  const long = peers.name.some((name) => shortName(name).length > 3);
  plot.x_range = new Bokeh.Range1d(bounds(network.x, long ? 0.3 : 0.09));
  plot.y_range = new Bokeh.Range1d(bounds(network.y, long ? 0.16 : 0.09));
  const size = count <= 40 ? 25 : Math.max(5, Math.min(18, 900 / count));
  plot.segment(field("x0"), field("y0"), field("x1"), field("y1"), { source: links, line_color: field("tint"), line_width: field("width"), line_alpha: field("alpha") });
  plot.scatter(field("x"), field("y"), {
    source: dots, size, fill_color: field("fill"), fill_alpha: field("alpha"), line_color: field("edge"), line_width: field("weight"), line_alpha: field("alpha"),
  });
  const absent = Charts.source({ x: [], y: [] });
  plot.scatter(field("x"), field("y"), { source: absent, size, fill_color: color("card"), line_color: color("away"), hatch_pattern: "right_diagonal_line", hatch_color: color("away"), hatch_scale: 6, hatch_weight: 1.2 });
  if (count <= 40) {
    plot.text(field("x"), field("y"), field("name"), { source: dots, text_color: field("ink"), text_alpha: field("alpha"), text_font: FONT, text_font_size: "11px", text_font_style: "bold", text_align: "center", text_baseline: long ? "top" : "middle", y_offset: long ? size / 2 + 3 : 0 });
  }
  const follow = () => {
    ({ network, peers } = Page.shown);
    const shades = Charts.shades();
    const span = Charts.span();
    const column = Math.min(shownColumn ?? last(), last());
    const chosen = Page.followed;
    const near = new Set(chosen === null ? [] : network.links.filter((link) => link.includes(chosen)).flat());
    const seen = (row) => chosen === null || row === chosen || near.has(row);
    const gone = peers.name.map((_, row) => (column === last() && !peers.up[row]) || (column >= 0 && away(row, column)));
    const parts = peers.name.map((_, row) => {
      const value = scoreAt(row, column);
      return value === null || gone[row] ? null : Charts.part(value, span);
    });
    dots.data = {
      x: network.x, y: network.y, name: peers.name.map((name) => (shortName(name).length > LABEL_MAX ? `${shortName(name).slice(0, LABEL_MAX)}…` : shortName(name))),
      fill: parts.map((part, row) => (part === null ? color(peers.attacks[row] ? "warm" : gone[row] ? "card" : "wash") : shades[Math.round(99 * part)])),
      edge: parts.map((part, row) => (row === chosen ? color("warm") : gone[row] ? color("away") : color("accent"))),
      weight: parts.map((_, row) => (row === chosen ? 3 : 1)),
      alpha: parts.map((_, row) => (seen(row) ? 1 : 0.3)),
      ink: parts.map((part, row) => (long ? color("ink") : part === null ? (peers.attacks[row] ? color("card") : color("dim")) : part > 0.42 === !Theme.dark() ? "#ffffff" : part > 0.5 ? "#0c1116" : Theme.dark() ? "#e6edf3" : "#17212b")),
    };
    const missing = peers.name.map((_, row) => row).filter((row) => gone[row]);
    absent.data = { x: missing.map((row) => network.x[row]), y: missing.map((row) => network.y[row]) };
    const most = Math.max(...network.traffic, 1);
    // Of many links no single one is to be seen, and thick ones are a blot.
    const crowded = Math.min(1, 60 / Math.max(1, wires));
    const thick = (count <= 60 ? 2.6 : 1.1) * crowded;
    const faint = count <= 60 ? 0.25 + 0.4 * Math.sqrt(crowded) : 0.3;
    const mine = ([a, b]) => a === chosen || b === chosen;
    links.data = {
      x0: network.links.map(([a]) => network.x[a]), y0: network.links.map(([a]) => network.y[a]),
      x1: network.links.map(([, b]) => network.x[b]), y1: network.links.map(([, b]) => network.y[b]),
      width: network.links.map((link, place) => (mine(link) ? 2.4 : 0.4 + (thick * network.traffic[place]) / most)),
      tint: network.links.map((link) => (mine(link) ? color("warm") : color("heat-2"))),
      alpha: network.links.map((link) => (gone[link[0]] || gone[link[1]] ? 0.15 : mine(link) ? 1 : chosen === null ? faint : 0.12)),
    };
  };
  const closest = (x, y) => {
    let [best, distance] = [null, Infinity];
    const [width, tall] = [plot.x_range.end - plot.x_range.start, plot.y_range.end - plot.y_range.start];
    network.x.forEach((_, row) => {
      const found = ((network.x[row] - x) / width) ** 2 + ((network.y[row] - y) / tall) ** 2;
      if (found < distance) [best, distance] = [row, found];
    });
    return distance < 0.0035 ? best : null;
  };
  plot.on_event("tap", (event) => {
    const row = closest(event.x, event.y);
    if (row !== null) Page.follow(row);
  });
  Charts.tip(plot, (x, y) => {
    const row = closest(x, y);
    if (row === null) return null;
    const column = Math.min(shownColumn ?? last(), last());
    const degree = network.links.filter((link) => link.includes(row)).length;
    return `${peers.name[row]}${peers.attacks[row] ? ", attacks" : ""}\n${scoreLabel()} ${scoreText(scoreAt(row, column))}\n${degree} neighbours`;
  }, { over: () => host });
  const words = `Who talks to whom: ${count} peers, ${network.links.length} links; the table of peers has the same scores`;
  const fits = () => Page.shown.peers.name.length === count && Page.shown.network.links.length === wires;
  return { plot, fits, fill: networkFrame, follow, words };
}

function bounds(values, share) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  // Two peers stand one above the other, up to a rounding.
  const room = high - low < 1e-6 ? 1 : share * (high - low);
  return { start: low - room, end: high + room };
}

let turnSlider = () => {};

function networkFrame() {
  const { network, points, curve, peers } = Page.shown;
  const red = peers.attacks.some(Boolean) ? " In red: who attacks." : "";
  const card = reveal("network", Page.shown.words?.network ?? `Colour: a peer’s ${scoreLabel()}; width of a line: what its ends have sent, shared over their neighbours.${red} ${network.note} Tap a peer to follow it.`);
  if (!card.querySelector(".drawing")) {
    const told = make("output", { text: "" });
    const slider = make("input", { type: "range", min: 0, step: 1, "aria-label": "round that the network shows" });
    slider.addEventListener("input", () => {
      shownColumn = Number(slider.value) === last() ? null : Number(slider.value);
      tell();
      Charts.drawn.get("network")?.follow();
    });
    const tell = () => {
      slider.max = last();
      slider.value = shownColumn ?? last();
      told.textContent = `round ${Page.shown.curve.round[Page.shown.points[Number(slider.value)]]}`;
      slider.setAttribute("aria-valuetext", told.textContent);
    };
    turnSlider = tell;
    card.replaceChildren(make("div", { class: "drawing" }), Charts.ramp(), make("label", { class: "slide", hidden: points.length < 2 }, slider, told));
  }
  card.querySelector(".ramp").replaceWith(Charts.ramp());
  card.querySelector(".slide").hidden = points.length < 2;
  if (points.length > 1 && curve.round.length) turnSlider();
  return card.querySelector(".drawing");
}

Charts.add("network", { wanted: () => single() && Page.shown.network !== null, host: networkFrame, build: networkChart });

/* --- peers by rounds --- */

const heatHeight = (rows) => Math.min(460, Math.max(255, 60 + 9 * rows));

function heatChart(host) {
  const rows = Page.shown.matrix.length;
  const height = heatHeight(rows);
  const plot = Charts.figure({ height, xLabel: "round" });
  plot.x_range = new Bokeh.Range1d({ start: 0, end: 1 });
  plot.y_range = new Bokeh.Range1d({ start: rows, end: 0 });
  const image = Charts.source({ image: [], dw: [] });
  const gone = Charts.source(boxes());
  const outline = Charts.source(boxes());
  const mapper = new Bokeh.LinearColorMapper({ palette: Charts.shades(), low: 0, high: 1, nan_color: color("well") });
  // Row 0 is at y = 0, and the axis points down.
  plot.image({ image: field("image"), x: 0, y: 0, dw: field("dw"), dh: rows, source: image, color_mapper: mapper });
  const sides = [field("left"), field("right"), field("bottom"), field("top")];
  plot.quad(...sides, { source: gone, fill_color: color("well"), line_color: null, hatch_pattern: "right_diagonal_line", hatch_color: color("away"), hatch_scale: 6, hatch_weight: 1.2 });
  plot.quad(...sides, { source: outline, fill_color: null, line_color: color("warm"), line_width: 2 });
  for (const grid of plot.center) grid.grid_line_color = null;
  const jump = Math.max(1, Math.ceil((rows * 17) / (height - 60)));
  ticksAt(plot.left[0], Array.from({ length: Math.ceil(rows / jump) }, (_, place) => place * jump), (row) => Page.shown.peers.name[row]);

  const fill = () => {
    const { matrix, points, curve } = Page.shown;
    const columns = points.length;
    const span = Charts.span();
    const cells = new Float64Array(rows * columns);
    matrix.forEach((line, row) => line.forEach((value, column) => {
      cells[row * columns + column] = value === null ? NaN : Charts.part(value, span);
    }));
    byId("heat-body").querySelector(".ramp")?.replaceWith(Charts.ramp());
    plot.x_range.end = columns;
    image.data = { image: [Charts.grid(cells, rows, columns)], dw: [columns] };
    gone.data = absences();
    const step = Math.max(1, Math.ceil(columns / 9));
    ticksAt(plot.below[0], points.map((_, column) => column).filter((column) => column % step === 0), (column) => String(curve.round[points[column]]));
  };
  const follow = () => {
    const row = Page.followed;
    outline.data = row === null ? boxes() : boxes([[0, Page.shown.points.length, row]]);
  };
  plot.on_event("tap", (event) => {
    const row = Math.floor(event.y);
    if (row >= 0 && row < rows) Page.follow(row);
  });
  Charts.tip(plot, (x, y) => {
    const { matrix, points, curve, peers } = Page.shown;
    const [row, column] = [Math.floor(y), Math.floor(x)];
    if (!(row >= 0 && row < rows && column >= 0 && column < points.length)) return null;
    const value = away(row, column) ? "away" : matrix[row][column] === null ? "not measured" : scoreText(matrix[row][column]);
    return `${peers.name[row]}, round ${curve.round[points[column]]}\n${value}`;
  }, { over: () => host });
  const words = `${capital(scoreLabel())} of each peer in each round; the table of peers has the same numbers, and its CSV`;
  return { plot, fits: () => Page.shown.matrix.length === rows, fill, follow, words };
}

/* [[left, right, row]] as boxes of a row's height. */
const boxes = (found = []) => ({
  left: found.map(([left]) => left), right: found.map(([, right]) => right),
  top: found.map(([, , row]) => row), bottom: found.map(([, , row]) => row + 1),
});

function absences() {
  const { down, points } = Page.shown;
  return boxes(down.flatMap((spans, row) => spans.flatMap(([first, end]) => {
    const inside = points.map((point, column) => [point, column]).filter(([point]) => first <= point && point <= end);
    return inside.length ? [[inside[0][1], inside.at(-1)[1] + 1, row]] : [];
  })));
}

/* Numbers in the middle of cells, told by what is there. */
function ticksAt(axis, cells, told) {
  axis.ticker = new Bokeh.FixedTicker({ ticks: cells.map((cell) => cell + 0.5) });
  axis.major_label_overrides = new Map(cells.map((cell) => [cell + 0.5, told(cell)]));
}

/* A field of numbers as the library wants them. */
Charts.grid = (cells, rows, columns) => Bokeh.require("core/util/ndarray").ndarray(cells, { dtype: "float64", shape: [rows, columns] });

function heatFrame() {
  const { sampled, matrix, down } = Page.shown;
  const some = sampled ? `${sampled.shown} of ${sampled.of} peers, evenly spaced by their final ${scoreLabel()}. ` : "";
  const blank = matrix.some((line, row) => !down[row].length && line.includes(null)) ? " Blank: not measured then." : "";
  const card = reveal("heat", `${some}A row that stays behind is a peer whose data differ, or whose neighbours are gone.${blank}`);
  if (!card.querySelector(".drawing")) card.replaceChildren(make("div", { class: "drawing" }), Charts.ramp());
  return card.querySelector(".drawing");
}

Charts.add("heat", { wanted: () => single() && Page.shown.points.length > 1 && Page.shown.matrix.filter((line) => line.some((value) => value !== null)).length > 1, host: heatFrame, build: heatChart });

/* --- whose data --- */

const CLASS_HUES = 10;
function classColor(place, count) {
  const [hue, turn] = [(205 + (360 * place) / Math.max(count, CLASS_HUES)) % 360, place % 2];
  return Theme.dark() ? `hsl(${hue}, ${turn ? 48 : 58}%, ${turn ? 66 : 50}%)` : `hsl(${hue}, ${turn ? 42 : 52}%, ${turn ? 62 : 42}%)`;
}

function dataChart(host) {
  const { data, peers } = Page.shown;
  const count = peers.name.length;
  const classes = data.counts.length ? data.classes : [""];
  const counts = data.counts.length ? data.counts : data.samples.map((samples) => [samples]);
  const plot = Charts.figure({ height: 230, xLabel: count <= 60 ? null : "peers" });
  plot.x_range = new Bokeh.Range1d({ start: -0.6, end: count - 0.4 });
  const bottoms = new Array(count).fill(0);
  const sources = classes.map((name, place) => {
    const bottom = [...bottoms];
    const top = bottoms.map((value, row) => (bottoms[row] = value + counts[row][place]));
    const source = Charts.source({ x: peers.name.map((_, row) => row), bottom, top, alpha: peers.name.map(() => 1) });
    const tint = data.counts.length ? classColor(place, classes.length) : color("accent");
    plot.vbar(field("x"), 0.84, field("top"), field("bottom"), { source, fill_color: tint, line_color: null, fill_alpha: field("alpha") });
    return source;
  });
  plot.y_range = new Bokeh.Range1d({ start: 0, end: 1.04 * Math.max(...bottoms, 1) });
  const step = Math.max(1, Math.ceil(count / 12));
  const ticks = peers.name.map((_, row) => row).filter((row) => row % step === 0);
  plot.below[0].ticker = new Bokeh.FixedTicker({ ticks });
  plot.below[0].major_label_overrides = new Map(ticks.map((row) => [row, shortName(peers.name[row])]));
  const legend = data.counts.length && classes.length <= 20 ? classes.map((name, place) => make("span", {}, make("i", { class: "swatch", style: { background: classColor(place, classes.length) } }), name)) : [];
  byId("data-legend").replaceChildren(...legend);
  byId("data-note").textContent = `Training samples of each ${data.counts.length ? "class at each " : ""}peer${data.how ? `, ${data.how}` : ""}.`;
  const follow = () => sources.forEach((source) => {
    source.data = { ...source.data, alpha: peers.name.map((_, row) => (Page.followed === null || row === Page.followed ? 1 : 0.28)) };
  });
  plot.on_event("tap", (event) => {
    const row = Math.round(event.x);
    if (row >= 0 && row < count && event.y >= 0) Page.follow(row);
  });
  Charts.tip(plot, (x) => {
    const row = Math.round(x);
    if (!(row >= 0 && row < count)) return null;
    const parts = data.counts.length ? counts[row].map((samples, place) => [classes[place], samples]).filter(([, samples]) => samples) : [];
    return [`${peers.name[row]}: ${data.samples[row]} samples`, ...parts.slice(0, 12).map(([name, samples]) => `${name}: ${samples}`)].join("\n");
  }, { over: () => host });
  const words = `Training samples of each peer, from ${Math.min(...data.samples)} to ${Math.max(...data.samples)}`;
  const first = JSON.stringify(data);
  return { plot, fits: () => JSON.stringify(Page.shown.data) === first, fill: () => {}, follow, words };
}

Charts.add("data", { wanted: () => single() && Page.shown.data !== null, build: dataChart });
