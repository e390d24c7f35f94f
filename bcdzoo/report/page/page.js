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
// A link to a network opens its details.
const open = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) { target.open = true; target.scrollIntoView(); }
};
addEventListener("hashchange", open);
open();
