"use strict";
const table = document.querySelector("table");
const files = Array.from(table.tBodies);
const search = document.getElementById("search");
const chips = Array.from(document.querySelectorAll(".chip"));
const count = document.getElementById("count");

function key(file, column) {
  const value = file.dataset[column];
  return column === "name" ? value : Number(value);
}

function sortBy(head) {
  const column = head.dataset.sort;
  const first = column === "name" ? "ascending" : "descending";
  const other = first === "ascending" ? "descending" : "ascending";
  const direction = head.getAttribute("aria-sort") === first ? other : first;
  for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", direction);
  const sign = direction === "ascending" ? 1 : -1;
  const compare = column === "name"
    ? (a, b) => a.localeCompare(b, undefined, { numeric: true })
    : (a, b) => a - b;
  files.sort((a, b) => sign * compare(key(a, column), key(b, column)));
  table.append(...files);
}

function filter() {
  const wanted = search.value.trim().toLowerCase();
  const state = chips.find((chip) => chip.getAttribute("aria-pressed") === "true").dataset.state;
  let shown = 0;
  for (const file of files) {
    const fits = (state === "all" || file.dataset.state === state) && file.dataset.name.toLowerCase().includes(wanted);
    file.hidden = !fits;
    shown += fits;
  }
  count.textContent = shown === files.length ? "" : shown + " of " + files.length;
}

for (const head of table.querySelectorAll("th[data-sort]")) {
  head.querySelector("button").addEventListener("click", () => sortBy(head));
}
for (const chip of chips) {
  chip.addEventListener("click", () => {
    for (const each of chips) each.setAttribute("aria-pressed", String(each === chip));
    filter();
  });
}
search.addEventListener("input", filter);
table.addEventListener("click", (event) => {
  const row = event.target.closest("tr.file");
  if (!row || String(window.getSelection())) return;
  const button = row.querySelector("button");
  if (!button) return;
  const open = button.getAttribute("aria-expanded") === "true";
  button.setAttribute("aria-expanded", String(!open));
  row.nextElementSibling.hidden = open;
});
