"use strict";
(() => {
  const config = { responsive: true, displaylogo: false, displayModeBar: "hover", modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
  for (const place of document.querySelectorAll(".plot")) {
    const source = place.querySelector("script");
    const figure = JSON.parse(source.textContent);
    source.remove();
    Plotly.newPlot(place, figure.data, figure.layout, config);
  }
  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
    for (const place of document.querySelectorAll(".plot")) Plotly.Plots.resize(place);
  });

  const compare = (a, b) => {
    const [x, y] = [a.dataset.key, b.dataset.key];
    const [p, q] = [Number.parseFloat(x), Number.parseFloat(y)];
    if (a.classList.contains("number") && b.classList.contains("number")) return p - q || 0;
    return x.localeCompare(y, "en", { numeric: true });
  };
  const infinite = (text) => text.replace(/^inf$/, "Infinity").replace(/^-inf$/, "-Infinity");
  for (const table of document.querySelectorAll("table.sortable")) {
    for (const cell of table.querySelectorAll("td.number")) cell.dataset.key = infinite(cell.dataset.key);
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const descending = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", descending ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => (descending ? -1 : 1) * compare(a.cells[column], b.cells[column]));
        table.tBodies[0].append(...rows);
      });
    });
  }
})();
