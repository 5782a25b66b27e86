/* Tables: headings that sort, rows that can be followed. */

const orders = new Map(); // caption -> how somebody has sorted the table

/* columns: [{ head, word, value(row), cell(row) }]; rows are indices. */
function sortable({ caption, columns, rows, pick, first = 0 }) {
  const body = make("tbody");
  const heads = columns.map((column) => make("th", { scope: "col", class: kinds(column) }));
  const table = make("table", {}, make("caption", { class: "sr", text: caption }), make("thead", {}, make("tr", {}, ...heads)), body);
  const lines = new Map(rows.map((row) => [row, rowOf(row, columns, pick)]));
  let sorted = orders.get(caption) ?? { column: first, down: false };

  function order() {
    const { column, down } = sorted;
    const value = columns[column].value;
    const known = (row) => value(row) !== null && value(row) !== undefined;
    const by = (a, b) => {
      if (known(a) !== known(b)) return known(a) ? -1 : 1;
      if (!known(a)) return a - b;
      const [x, y] = [value(a), value(b)];
      const sign = typeof x === "string" && !(isNumber(x) && isNumber(y)) ? x.localeCompare(y, "en", { numeric: true }) : x - y;
      return (down ? -sign : sign) || a - b;
    };
    body.replaceChildren(...[...rows].sort(by).map((row) => lines.get(row)));
    heads.forEach((head, place) => {
      if (place === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  }

  columns.forEach((column, place) => {
    if (!column.value) return void (heads[place].textContent = column.head);
    const press = () => {
      sorted = { column: place, down: sorted.column === place ? !sorted.down : !column.word };
      orders.set(caption, sorted);
      order();
    };
    heads[place].append(make("button", { type: "button", text: column.head, on: { click: press } }));
  });
  order();
  return { element: scrolled(table, caption), lines };
}

/* 0.05 is less than 0.1, whatever its digits. */
const isNumber = (text) => text.trim() !== "" && Number.isFinite(Number(text));

const kinds = ({ word, long, wide }) => [word && "word", long && "long", wide && "wide"].filter(Boolean).join(" ") || null;

function rowOf(row, columns, pick) {
  const cells = columns.map((column, place) => {
    const tag = place === 0 ? "th" : "td";
    const cell = make(tag, { class: kinds(column), scope: place === 0 ? "row" : null });
    cell.append(...[column.cell(row)].flat().filter((part) => part !== null && part !== undefined));
    return cell;
  });
  const line = make("tr", { class: pick ? "pick" : null }, ...cells);
  if (pick) line.addEventListener("click", () => pick(row));
  return line;
}

/* The name of a row as a button: what a keyboard reaches. */
function picker(text, row) {
  return make("button", { type: "button", text, "aria-pressed": "false", on: { click: (event) => { event.stopPropagation(); Page.follow(row); } } });
}

function mark(lines) {
  for (const [row, line] of lines) {
    const chosen = row === Page.followed;
    if (line.classList.contains("chosen") === chosen) continue;
    line.classList.toggle("chosen", chosen);
    line.querySelector("th button")?.setAttribute("aria-pressed", String(chosen));
  }
}

/* What is wider than the page scrolls by itself, by keyboard, too. */
function scrolled(table, caption) {
  const tall = table.rows.length > 45;
  return make("div", { class: tall ? "scroll tall" : "scroll", tabindex: "0", role: "group", "aria-label": caption }, table);
}

function plainTable(caption, heads, rows) {
  const head = make("tr", {}, ...heads.map((text, place) => make("th", { scope: "col", text, class: place ? null : "word" })));
  const body = rows.map((cells) => make("tr", {}, ...cells.map((cell, place) => {
    const tag = place === 0 ? "th" : "td";
    return cell instanceof Node ? make(tag, { scope: place ? null : "row" }, cell) : make(tag, { scope: place ? null : "row", class: String(cell).length > 40 ? "long" : null, text: cell });
  })));
  return scrolled(make("table", { class: rows.every((cells) => cells.length < 5) ? "free" : null }, make("caption", { class: "sr", text: caption }), make("thead", {}, head), make("tbody", {}, ...body)), caption);
}

let peerLines = new Map();

function peersTable() {
  const { peers, matrix, sampled } = Page.shown;
  const rows = peers.name.map((_, row) => row);
  const known = matrix.flat().filter((value) => value !== null);
  const low = Page.shown.score.percent ? 0 : known.reduce((a, b) => Math.min(a, b), Infinity);
  const high = Page.shown.score.percent ? 1 : known.reduce((a, b) => Math.max(a, b), -Infinity);
  const meter = (value) => {
    const part = value === null || high <= low ? 0 : (value - low) / (high - low);
    const width = Page.shown.score.higher_is_better || Page.shown.score.percent ? part : 1 - part;
    return make("span", { class: "meter", "aria-hidden": "true" }, make("i", { style: { width: `${(100 * width).toFixed(1)}%` } }));
  };
  const column = (key, head, told, more = {}) => peers[key] && { head, value: (row) => peers[key][row], cell: (row) => told(peers[key][row], row), ...more };
  const columns = [
    column("name", "peer", (name, row) => [
      make("span", { class: peers.up[row] ? "dot" : "dot off", "aria-hidden": "true" }), picker(name, row),
      peers.attacks[row] ? make("b", { class: "bad", text: " attacks" }) : null,
    ], { word: true }),
    column("score", scoreLabel(), (value) => [scoreText(value), meter(value)]),
    { head: "over time", cell: (row) => spark(matrix[row]) ?? "" },
    column("before_final", "before the final steps", scoreText, { wide: true }),
    column("own_score", `${scoreLabel()} on own tests`, scoreText, { wide: true }),
    column("test_loss", "test loss", numberText, { wide: true }),
    column("samples", "samples", (value) => value ?? NONE, { wide: true }),
    column("sent", "sent", bytesText),
    column("received", "received", bytesText, { wide: true }),
    column("heard", "heard", (value) => value ?? NONE, { wide: true }),
    column("epsilon", "ε spent", numberText, { wide: true }),
    column("rejected", "refused", (value) => value, { wide: true }),
    column("rounds", "rounds", (value) => value, { wide: true }),
    column("state", "state", (value) => value, { long: true, wide: true }),
  ].filter(Boolean);
  const made = sortable({ caption: "Peers", columns, rows, pick: Page.follow });
  const note = sampled ? `${sampled.shown} of ${sampled.of} peers, evenly spaced by their final ${scoreLabel()}, the worst and the best among them.` : "";
  const held = [...peerLines].find(([, line]) => line.contains(document.activeElement))?.[0];
  peerLines = made.lines;
  reveal("peers", `${Page.shown.words?.peers ?? note} Choose a peer to see it everywhere.`.trim()).replaceChildren(made.element);
  if (held !== undefined) peerLines.get(held)?.querySelector("button").focus();
  mark(peerLines);
}

byId("peers-csv").addEventListener("click", () => {
  const { peers, matrix, points, curve, title } = Page.shown;
  const names = Object.keys(peers);
  const rounds = points.map((point) => `${scoreLabel()} after round ${curve.round[point]}`);
  download(`${title}-peers.csv`, [[...names, ...rounds], ...peers.name.map((_, row) => [...names.map((name) => peers[name][row]), ...matrix[row]])]);
});
Page.on("followed", () => Page.shown.kind === "run" && mark(peerLines));
