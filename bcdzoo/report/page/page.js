"use strict";
// A column's head sorts its table: numbers by value, then the other way round; what is unknown stays last.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  table.tHead.addEventListener("click", (event) => {
    const head = event.target.closest("th");
    if (!head) return;
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => {
      const cell = row.cells[head.cellIndex];
      return cell ? (cell.dataset.sort ?? cell.textContent.trim()) : "";
    };
    const rows = Array.from(body.rows, (row) => ({ row, text: key(row), value: Number(key(row)) }));
    const numeric = rows.every(({ text, value }) => text === "" || !Number.isNaN(value));
    rows.sort((a, b) => {
      if (a.text === "" || b.text === "") return (a.text === "") - (b.text === "");
      const order = numeric ? a.value - b.value : a.text.localeCompare(b.text);
      return up ? order : -order;
    });
    body.append(...rows.map(({ row }) => row));
  });
}
// Rows and networks whose names do not have every word of the filter are hidden.
const filter = document.getElementById("filter");
const named = Array.from(document.querySelectorAll("[data-names]"));
const apply = () => {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const one of named) {
    const names = one.dataset.names.toLowerCase();
    one.hidden = !words.every((word) => names.includes(word));
  }
  const left = named.filter((one) => one instanceof HTMLDetailsElement && !one.hidden).length;
  document.querySelector("output").value = words.length ? `${left} ${left === 1 ? "network" : "networks"}` : "";
};
filter.addEventListener("input", apply);
apply(); // a browser may have kept what was typed
// A link to a network opens its details; what it leads to is never hidden.
const open = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  if (target.hidden) { filter.value = ""; apply(); }
  if (target instanceof HTMLDetailsElement) { target.open = true; target.scrollIntoView(); }
};
addEventListener("hashchange", open);
open();
