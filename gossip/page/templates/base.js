/* What all scripts of the page share: the document, who is followed, the theme, and making elements. */
"use strict";
const Page = {
  shown: null, // the document
  followed: null, // row of the peer (or of the run) that is followed; null: nobody
  axis: "round",
  listeners: { document: [], followed: [], theme: [] },
};

Page.on = (what, act) => Page.listeners[what].push(act);
Page.tell = (what) => Page.listeners[what].forEach((act) => act());

/* A live page calls this with every new document. */
Page.show = (shown) => {
  Page.shown = shown;
  Page.tell("document");
};

Page.follow = (row) => {
  Page.followed = Page.followed === row ? null : row;
  Page.tell("followed");
};

const byId = (id) => document.getElementById(id);

/* make("td", { class: "word", text: "…" }, child, …) */
function make(tag, about = {}, ...children) {
  const svg = ["svg", "path", "line", "rect", "circle", "g"].includes(tag);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(about)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") made.textContent = value;
    else if (name === "on") for (const [event, act] of Object.entries(value)) made.addEventListener(event, act);
    else if (name === "style") for (const [key, said] of Object.entries(value)) made.style.setProperty(key, said);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function reveal(id, note) {
  byId(id).hidden = false;
  if (note !== undefined) byId(`${id}-note`).textContent = note;
  const body = byId(`${id}-body`);
  return body;
}

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/* The theme is the system's until somebody chooses. */
const Theme = { system: window.matchMedia("(prefers-color-scheme: dark)"), chosen: null };
Theme.dark = () => (Theme.chosen ?? (Theme.system.matches ? "dark" : "light")) === "dark";
Theme.apply = () => {
  document.documentElement.dataset.theme = Theme.dark() ? "dark" : "light";
  byId("theme").setAttribute("aria-pressed", String(Theme.dark()));
};
Theme.apply();
Theme.system.addEventListener("change", () => {
  Theme.apply();
  Page.tell("theme");
});
byId("theme").addEventListener("click", () => {
  Theme.chosen = Theme.dark() ? "light" : "dark";
  Theme.apply();
  Page.tell("theme");
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && Page.followed !== null) Page.follow(Page.followed);
});
byId("unfollow").addEventListener("click", () => Page.follow(Page.followed));
Page.on("followed", () => {
  const row = Page.followed;
  byId("followed").hidden = row === null;
  if (row === null) return;
  byId("followed-name").textContent = Page.shown.kind === "run" ? Page.shown.peers.name[row] : Page.shown.rows[row].label;
});
