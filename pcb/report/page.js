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
