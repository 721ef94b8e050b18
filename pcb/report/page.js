"use strict";

// Sorting: a heading becomes a button; what was not run stays at the end in either direction.
const value = (row, column) => row.cells[column].textContent.trim();
const absent = (text) => text === "" || text === "–" || text === "not run";

function compare(a, b) {
  const [x, y] = [parseFloat(a), parseFloat(b)];
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
}

function sortBy(table, heading, column) {
  const down = heading.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  const body = table.tBodies[0];
  const rows = [...body.rows].sort((a, b) => {
    const [x, y] = [value(a, column), value(b, column)];
    if (absent(x) || absent(y)) return absent(x) - absent(y);
    return down ? compare(y, x) : compare(x, y);
  });
  body.append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sortBy(table, heading, column));
    heading.append(button);
  });
}

// Enlarging: a copy of the figure in a dialog, which gives the focus back when it closes.
const dialog = document.getElementById("enlarged");
for (const figure of document.querySelectorAll("figure")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "enlarge";
  button.textContent = "Enlarge";
  button.setAttribute("aria-label", `Enlarge: ${figure.querySelector("strong").textContent}`);
  button.addEventListener("click", () => {
    dialog.querySelector(".view").replaceChildren(...figure.querySelector(".view").cloneNode(true).childNodes);
    dialog.showModal();
  });
  figure.append(button);
}
dialog.querySelector(".close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

// Comparing: another run's metrics.csv is read here and joined with this one's.
const KEY = ["model", "steps", "blocks_per_scale", "cfg", "cfg_start_step"];

function readCsv(text) {
  const [names, ...lines] = text.trim().split(/\r?\n/).map((line) => line.split(","));
  return lines.map((cells) => Object.fromEntries(names.map((name, k) => [name, cells[k]])));
}

function cell(kind, text, classes) {
  const made = document.createElement(kind);
  made.textContent = text;
  if (classes) made.className = classes;
  return made;
}

const own = readCsv(document.getElementById("metrics").textContent);
const scores = document.getElementById("score");
for (const name of ["fid", "is", "precision", "recall", "kid", "nll", "price"]) scores.append(new Option(name));
let others = null;

function compareRuns() {
  if (!others) return;
  const status = document.getElementById("compared");
  const score = scores.value;
  if (!others.rows.length || !(score in others.rows[0]) || !KEY.every((k) => k in others.rows[0])) {
    document.getElementById("comparison").replaceChildren();
    status.textContent = `${others.name} is no metrics.csv of a report.`;
    return;
  }
  const theirs = new Map(others.rows.map((row) => [KEY.map((k) => row[k]).join(), row]));
  const table = document.createElement("table");
  table.createCaption().textContent = `${score} of this run and of ${others.name}.`;
  const head = table.createTHead().insertRow();
  for (const name of ["model", "steps", "guidance", "this run", others.name, "difference"])
    head.append(cell("th", name));
  const body = table.createTBody();
  let both = 0;
  for (const row of own) {
    const other = theirs.get(KEY.map((k) => row[k]).join());
    const [a, b] = [row, other].map((r) => (r ? parseFloat(r[score]) : NaN));
    const known = !Number.isNaN(a) && !Number.isNaN(b);
    both += known;
    const line = body.insertRow();
    line.append(cell("th", row.model), cell("td", row.steps, "num"), cell("td", row.cfg, "num"));
    for (const x of [a, b])
      line.append(cell("td", Number.isNaN(x) ? "not run" : x.toPrecision(4), Number.isNaN(x) ? "num absent" : "num"));
    const share = known ? ` (${((100 * (a - b)) / b).toFixed(1)} %)` : "";
    line.append(cell("td", known ? (a - b).toPrecision(3) + share : "–", "num"));
  }
  document.getElementById("comparison").replaceChildren(table);
  status.textContent = `${both} of ${own.length} settings were measured in both.`;
}

scores.addEventListener("change", compareRuns);
document.getElementById("other").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (!file) return;
  others = { name: file.name, rows: readCsv(await file.text()) };
  compareRuns();
});

// Theme: the system's, until the button is pressed.
const theme = document.getElementById("theme");
let dark = matchMedia("(prefers-color-scheme: dark)").matches;
const name = () => { theme.textContent = dark ? "Light" : "Dark"; };
theme.hidden = false;
name();
theme.addEventListener("click", () => {
  dark = !dark;
  document.documentElement.style.colorScheme = dark ? "dark" : "light";
  name();
});

// Paper has no buttons: what is folded is printed unfolded.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
