"use strict";
(() => {
  // Theme: the hash wins (#theme=dark), then the reader's earlier choice, then the system's.
  function startTheme() {
    const root = document.documentElement;
    const asked = /theme=(light|dark)/.exec(location.hash);
    let kept = null;
    try { kept = localStorage.getItem("lt-eval-theme"); } catch { /* storage may be forbidden for files */ }
    if (asked || kept) root.dataset.theme = asked ? asked[1] : kept;
    document.getElementById("theme").addEventListener("click", () => {
      const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
      root.dataset.theme = (root.dataset.theme || system) === "dark" ? "light" : "dark";
      try { localStorage.setItem("lt-eval-theme", root.dataset.theme); } catch { /* as above */ }
    });
  }

  // Tables: sorted within each data set; ground truth stays on top, empty cells stay at the bottom.
  function startSorting(table) {
    const headers = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    headers.forEach((header, index) => {
      const button = header.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const first = header.dataset.better === "higher" ? "descending" : "ascending";
        const second = first === "ascending" ? "descending" : "ascending";
        const order = { none: first, [first]: second, [second]: "none" }[header.getAttribute("aria-sort")];
        headers.forEach((other) => other.hasAttribute("aria-sort") && other.setAttribute("aria-sort", "none"));
        header.setAttribute("aria-sort", order);
        for (const body of table.tBodies) sortBody(body, index, order);
      });
    });
  }

  function sortBody(body, index, order) {
    const [block, ...rows] = [...body.rows];
    const sign = order === "descending" ? -1 : 1;
    const original = (row) => Number(row.dataset.order);
    const value = (row) => row.cells[index].dataset.value;
    const pinned = (row) => row.classList.contains("truth") && !row.classList.contains("published");
    const compare = (a, b) => {
      if (order === "none") return original(a) - original(b);
      if (pinned(a) !== pinned(b)) return pinned(a) ? -1 : 1;
      const [x, y] = [value(a), value(b)];
      if ((x === "") !== (y === "")) return x === "" ? 1 : -1;
      const difference = index === 0 ? x.localeCompare(y) : Number(x) - Number(y);
      return sign * difference || original(a) - original(b);
    };
    body.append(block, ...rows.sort(compare));
  }

  startTheme();
  document.querySelectorAll("table.sortable").forEach(startSorting);
})();
