"use strict";
(() => {
  // Filters. The address keeps them: #accuracy&dataset=…&method=…, where the part without "=" is an anchor.
  const form = document.querySelector(".filters");
  const selects = [...form.querySelectorAll("select")];
  const chosen = { dataset: "", method: "" };
  const hides = (node) =>
    Object.entries(chosen).some(([key, want]) => want && node.dataset[key] && node.dataset[key] !== want);
  const apply = () => {
    for (const node of document.querySelectorAll("[data-dataset], [data-method]")) {
      node.style.display = hides(node) ? "none" : "";
    }
  };
  const readHash = () => {
    const parts = location.hash.slice(1).split("&");
    const filters = new URLSearchParams(parts.filter((part) => part.includes("=")).join("&"));
    let anchor = parts.find((part) => part && !part.includes("=")) ?? "";
    try {
      anchor = decodeURIComponent(anchor);
    } catch {
      anchor = "";
    }
    return { anchor, filters };
  };
  const writeHash = () => {
    const filters = new URLSearchParams(Object.entries(chosen).filter(([, want]) => want)).toString();
    const hash = [readHash().anchor, filters].filter(Boolean).join("&");
    history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  };
  for (const select of selects) {
    select.addEventListener("change", () => {
      chosen[select.dataset.filter] = select.value;
      apply();
      writeHash();
    });
  }
  form.hidden = false;

  const follow = () => {
    const { anchor, filters } = readHash();
    for (const select of selects) {
      const want = filters.get(select.dataset.filter);
      if (want !== null && [...select.options].some((option) => option.value === want)) {
        select.value = want;
        chosen[select.dataset.filter] = want;
      }
    }
    apply();
    const target = anchor && document.getElementById(anchor);
    const details = target && target.closest("details");
    if (details && !details.open) details.open = true;
    // The browser itself does not find an anchor that stands beside a filter, or in closed details.
    if (target && (details || [...filters].length)) target.scrollIntoView({ block: details ? "center" : "start" });
    writeHash();
  };
  addEventListener("hashchange", follow);

  // Sorting.
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

  // Tables as CSV: the rows that are shown, in the order in which they are shown.
  const field = (cell) => {
    const numeric = cell.classList.contains("n");
    const copy = cell.cloneNode(true);
    if (numeric) for (const tag of copy.querySelectorAll("small")) tag.remove();
    let text = copy.textContent.trim().replace(/\u2212/g, "-");
    if (text === "–") text = "";
    // A spreadsheet must not take a text for a formula.
    if (!numeric && /^[=+\-@]/.test(text)) text = `'${text}`;
    return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
  };
  const csv = (table) => {
    const rows = [table.tHead.rows[0], ...[...table.tBodies[0].rows].filter((row) => row.style.display !== "none")];
    return rows.map((row) => [...row.cells].map(field).join(",")).join("\r\n") + "\r\n";
  };
  for (const button of document.querySelectorAll("button.csv")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const table = button.parentNode.querySelector("table");
      const url = URL.createObjectURL(new Blob([csv(table)], { type: "text/csv" }));
      const link = document.createElement("a");
      link.href = url;
      link.download = button.dataset.file;
      link.click();
      setTimeout(() => URL.revokeObjectURL(url), 10000);
    });
  }

  // Legends: an entry hides or shows its line. An image cannot hold buttons, so such a plot becomes a group.
  for (const svg of document.querySelectorAll("figure svg")) {
    const entries = svg.querySelectorAll("g.key");
    if (entries.length < 2) continue;
    svg.setAttribute("role", "group");
    for (const entry of entries) {
      const toggle = () => {
        const shown = entry.getAttribute("aria-pressed") !== "true";
        entry.setAttribute("aria-pressed", String(shown));
        for (const line of svg.querySelectorAll(`g[data-series="${entry.dataset.series}"]:not(.key)`)) {
          line.classList.toggle("off", !shown);
        }
      };
      entry.setAttribute("role", "button");
      entry.setAttribute("tabindex", "0");
      entry.setAttribute("aria-pressed", "true");
      entry.addEventListener("click", toggle);
      entry.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        toggle();
      });
    }
  }

  follow();
})();
