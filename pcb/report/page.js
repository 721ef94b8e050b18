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

// Commands: a button copies one. They can be marked and copied by hand too.
async function copy(code, button) {
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    getSelection().selectAllChildren(code);
    document.execCommand("copy");
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
}

function offerCopy(command) {
  const [code, button] = [command.querySelector("code"), document.createElement("button")];
  button.type = "button";
  button.textContent = "Copy";
  button.setAttribute("aria-label", `Copy: ${code.textContent}`);
  button.addEventListener("click", () => copy(code, button));
  command.append(button);
}

for (const command of document.querySelectorAll(".command")) offerCopy(command);

// Looking at a grid column by column: the same image in every row, cut out of the rows' pictures.
const viewer = document.getElementById("viewer");
const part = (name) => viewer.querySelector(`.${name}`);
let looked = null;

function readGrid(figure) {
  return {
    title: figure.querySelector("strong").textContent.replace(/\.$/, ""),
    columns: JSON.parse(figure.dataset.columns),
    perStrip: Number(figure.dataset.perStrip),
    gap: Number(figure.dataset.gap),
    classes: Number(figure.dataset.classes),
    rows: [...figure.querySelectorAll(".strip[data-row]")].map((strip) => ({
      label: strip.querySelector(".label").textContent,
      pictures: [...strip.querySelectorAll("img")],
    })),
    commands: [...figure.querySelectorAll(".command code")].map((code) => code.textContent),
  };
}

// Where a column stands: in which picture, at which place of how many.
function placeOf(grid, column) {
  const number = Math.floor(column / grid.perStrip);
  const many = Math.min(grid.perStrip, grid.columns.length - number * grid.perStrip);
  return { number, place: column % grid.perStrip, many };
}

function cutOut(grid, row, column) {
  const { number, place, many } = placeOf(grid, column);
  const picture = row.pictures[number];
  const side = (picture.naturalWidth - grid.gap * (many - 1)) / many;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [side, picture.naturalHeight];
  canvas.className = side <= 64 ? "small" : "";
  canvas.getContext("2d").drawImage(picture, -place * (side + grid.gap), 0);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${grid.columns[column]}, ${row.label}`);
  const figure = document.createElement("figure");
  figure.append(canvas, cell("figcaption", row.label));
  return figure;
}

// Image i is the one of its class that comes after i / classes others.
function commandsOf(grid, column) {
  if (!grid.classes) return grid.commands;
  const own = `--classes ${column % grid.classes} --count ${Math.floor(column / grid.classes) + 1} `;
  return grid.commands.map((command) => command.replace(/--classes [\d ]+ --count \d+ /, own));
}

function show(column) {
  const { grid } = looked;
  looked.column = Math.max(0, Math.min(column, grid.columns.length - 1));
  part("which").textContent = `${grid.columns[looked.column]} (${looked.column + 1} of ${grid.columns.length})`;
  // Not `disabled`: a button that has the focus would lose it, and the arrow keys with it.
  part("previous").setAttribute("aria-disabled", looked.column === 0);
  part("next").setAttribute("aria-disabled", looked.column === grid.columns.length - 1);
  part("same").replaceChildren(...grid.rows.map((row) => cutOut(grid, row, looked.column)));
  part("commands").replaceChildren(...commandsOf(grid, looked.column).map((text) => {
    const command = document.createElement("div");
    command.className = "command";
    command.append(cell("code", text));
    offerCopy(command);
    return command;
  }));
}

function look(figure, column) {
  looked = { grid: readGrid(figure), column };
  document.getElementById("viewer-title").textContent = looked.grid.title;
  show(column);
  viewer.showModal();
}

for (const figure of document.querySelectorAll("figure.grid")) {
  figure.classList.add("looked");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "look";
  const [first] = JSON.parse(figure.dataset.columns);
  button.textContent = first.includes("step") ? "Look step by step" : "Look image by image";
  button.addEventListener("click", () => look(figure, 0));
  figure.querySelector("figcaption").after(button);
  figure.querySelector(".view").addEventListener("click", (event) => {
    const strip = event.target.closest(".strip[data-row]");
    if (event.target.tagName !== "IMG" || !strip) return;
    const grid = readGrid(figure);
    const first = [...strip.querySelectorAll("img")].indexOf(event.target) * grid.perStrip;
    const { many } = placeOf(grid, first);
    const share = event.offsetX / event.target.clientWidth;
    look(figure, first + Math.max(0, Math.min(many - 1, Math.floor(share * many))));
  });
}

const MOVES = {
  ArrowLeft: (k) => k - 1,
  ArrowRight: (k) => k + 1,
  Home: () => 0,
  End: () => Infinity,
};
viewer.addEventListener("keydown", (event) => {
  if (!(event.key in MOVES) || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  show(MOVES[event.key](looked.column));
});
part("previous").addEventListener("click", () => show(looked.column - 1));
part("next").addEventListener("click", () => show(looked.column + 1));
part("close").addEventListener("click", () => viewer.close());
viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });

// A finger's swipe turns as the arrows do.
const SWIPE = 40;
let touched = null;
part("same").addEventListener("touchstart", (event) => { touched = event.touches[0].clientX; }, { passive: true });
part("same").addEventListener("touchend", (event) => {
  const moved = event.changedTouches[0].clientX - touched;
  if (Math.abs(moved) > SWIPE) show(looked.column + (moved < 0 ? 1 : -1));
});

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
  status.textContent = `${both} of ${own.length} sampling configs were measured in both.`;
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
