/* Numbers as people read them. */
const NONE = "–";

function bytesText(count) {
  if (count === null || count === undefined) return NONE;
  let value = count;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (value < 1000) return `${unit === "B" ? value.toFixed(0) : value.toFixed(1)} ${unit}`;
    value /= 1000;
  }
  return `${value.toFixed(1)} TB`;
}

function secondsText(value) {
  if (value === null || value === undefined) return NONE;
  if (value >= 7200) return `${(value / 3600).toFixed(1)} h`;
  if (value >= 1000) return `${value.toFixed(0)} s`;
  return value >= 0.1 || value === 0 ? `${value.toFixed(value < 1 ? 2 : 1)} s` : `${(1000 * value).toFixed(1)} ms`;
}

/* Of an estimate nobody wants to see more than its size. */
function leftText(value) {
  if (value >= 5400) return `${(value / 3600).toFixed(value >= 36000 ? 0 : 1)} h`;
  return value >= 90 ? `${Math.round(value / 60)} min` : `${Math.max(1, Math.round(value))} s`;
}

const numberText = (value) => (value === null || value === undefined ? NONE : String(Number(value.toPrecision(3))));

/* The objective's score: a share as percents, anything else as it is. */
const scoreText = (value) => scoreTextOf(value, Page.shown.score);

function scoreTextOf(value, score) {
  if (value === null || value === undefined) return NONE;
  return score.percent ? `${(100 * value).toFixed(1)} %` : String(Number(value.toPrecision(4)));
}

function spreadText(value) {
  if (value === null || value === undefined) return NONE;
  return Page.shown.score.percent ? (100 * value).toFixed(1) : String(Number(value.toPrecision(2)));
}

const capital = (text) => text.slice(0, 1).toUpperCase() + text.slice(1);
const scoreLabel = () => Page.shown.score.label;
const shortName = (name) => name.replace(/^peer-/, "");

function spark(values, { width = 96, height = 22, area = false } = {}) {
  const known = values.map((value, place) => [place, value]).filter(([, value]) => value !== null && value !== undefined);
  if (known.length < 2) return null;
  const heights = known.map(([, value]) => value);
  const low = Math.min(...heights);
  const span = Math.max(...heights) - low || 1;
  const across = (place) => ((place / (values.length - 1)) * (width - 2) + 1).toFixed(1);
  const up = (value) => (height - 2 - ((value - low) / span) * (height - 4)).toFixed(1);
  const line = known.map(([place, value], index) => `${index ? "L" : "M"}${across(place)} ${up(value)}`).join("");
  const made = make("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, width, height, preserveAspectRatio: "none", "aria-hidden": "true" });
  if (area) {
    const closed = `${line}L${across(known.at(-1)[0])} ${height}L${across(known[0][0])} ${height}Z`;
    made.append(make("path", { d: closed, fill: "currentColor", opacity: 0.12 }));
  }
  made.append(make("path", { d: line, fill: "none", stroke: "currentColor", "stroke-width": 1.6, "vector-effect": "non-scaling-stroke" }));
  return made;
}

/* A piece of a line for a legend. */
function stroke(tint, dashes = "none", width = 2.4) {
  return make("svg", { width: 26, height: 10, "aria-hidden": "true" },
    make("line", { x1: 1, y1: 5, x2: 25, y2: 5, stroke: tint, "stroke-width": width, "stroke-dasharray": dashes }));
}

function download(name, rows) {
  const quoted = (cell) => {
    const text = cell === null || cell === undefined ? "" : String(cell);
    // A spreadsheet would run what begins so.
    const plain = typeof cell === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\n]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
  };
  const text = rows.map((row) => row.map(quoted).join(",")).join("\n");
  const link = make("a", { href: `data:text/csv;charset=utf-8,${encodeURIComponent(text)}`, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}
