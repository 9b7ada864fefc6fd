"use strict";
(() => {
  const form = document.querySelector(".filters");
  const chosen = { dataset: "", method: "" };
  const hides = (node) =>
    Object.entries(chosen).some(([key, want]) => want && node.dataset[key] && node.dataset[key] !== want);
  const apply = () => {
    for (const node of document.querySelectorAll("[data-dataset], [data-method]")) {
      node.style.display = hides(node) ? "none" : "";
    }
  };
  for (const select of form.querySelectorAll("select")) {
    select.addEventListener("change", () => {
      chosen[select.dataset.filter] = select.value;
      apply();
    });
  }
  form.hidden = false;

  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.sort === undefined ? cell.textContent.trim() : Number(cell.dataset.sort);
  };
  const order = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a === "number" || typeof b === "number") return typeof a === "number" ? -1 : 1;
    return a.localeCompare(b, "en", { numeric: true });
  };
  for (const head of document.querySelectorAll("th")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const body = head.closest("table").tBodies[0];
      const rows = [...body.rows].map((row) => [key(row, head.cellIndex), row]);
      rows.sort(([a], [b]) => (down ? order(b, a) : order(a, b)));
      body.append(...rows.map(([, row]) => row));
    });
  }

  const open = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const details = target?.closest("details");
    if (details && !details.open) {
      details.open = true;
      target.scrollIntoView({ block: "center" });
    }
  };
  addEventListener("hashchange", open);
  open();
})();
