"use strict";
(() => {
  const said = document.getElementById("said");
  const say = (text) => { said.textContent = text; };
  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // --- light and dark ---
  const root = document.documentElement;
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const toggle = make("button", { type: "button", className: "theme" });
  const label = () => { toggle.textContent = isDark() ? "Light page" : "Dark page"; };
  toggle.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("fairsweep-theme", root.dataset.theme); } catch (error) { /* the choice lasts as long as the page */ }
    label();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
  label();
  const print = make("button", { type: "button", textContent: "Print" });
  print.addEventListener("click", () => window.print());
  document.querySelector(".controls").append(print, toggle);

  // --- tables: sort ---
  const infinite = (text) => Number(text.replace(/^(-?)inf$/, "$1Infinity"));
  const keyOf = (cell) => cell.classList.contains("number") ? infinite(cell.dataset.key) : cell.dataset.key;
  const isMissing = (cell) => cell.dataset.key === "" || cell.dataset.key.startsWith("n/a");
  const compare = (a, b) => {
    const [x, y] = [keyOf(a), keyOf(b)];
    if (typeof x === "number" && typeof y === "number") return x === y ? 0 : x - y;
    return String(x).localeCompare(String(y), "en", { numeric: true });
  };
  const sortable = (table) => {
    const heads = [...table.tHead.rows[0].cells];
    const given = [...table.tBodies[0].rows];
    heads.forEach((head, column) => {
      head.firstElementChild.addEventListener("click", () => {
        const next = { ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")] ?? "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        if (next !== "none") head.setAttribute("aria-sort", next);
        const sign = next === "descending" ? -1 : 1;
        const rows = [...given];
        // What is missing stays last, whichever way the column is sorted.
        if (next !== "none") rows.sort((a, b) => {
          const [p, q] = [a.cells[column], b.cells[column]];
          return (isMissing(p) - isMissing(q)) || (isMissing(p) ? 0 : sign * compare(p, q));
        });
        table.tBodies[0].append(...rows);
        say(next === "none" ? "in the order of the sweep" : `sorted by ${head.textContent}, ${next}`);
      });
    });
  };

  // --- tables: filter ---
  const choices = (table, column) => {
    const cells = [...table.tBodies[0].rows].map((row) => row.cells[column]);
    if (cells.some((cell) => cell.querySelector("small") || cell.textContent.length > 40)) return [];
    const values = [...new Set(cells.map((cell) => cell.textContent))];
    return values.length >= 2 && values.length <= 8 && 2 * values.length <= cells.length ? values : [];
  };
  const filterable = (table) => {
    const rows = [...table.tBodies[0].rows];
    if (rows.length < 5) return;
    const name = table.getAttribute("aria-label");
    const count = make("output", {});
    const words = make("input", { type: "search", placeholder: "Filter rows", autocomplete: "off" });
    words.setAttribute("aria-label", `Filter the rows of ${name}`);
    const selects = [...table.tHead.rows[0].cells].flatMap((head, column) => {
      const values = choices(table, column);
      if (!values.length) return [];
      const select = make("select", {}, make("option", { value: "", textContent: "all" }));
      for (const value of values) select.append(make("option", { value: `=${value}`, textContent: value || "(empty)" }));
      return [{ select, column, label: make("label", {}, `${head.textContent} `, select) }];
    }).slice(0, 4);
    const apply = () => {
      const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        const fits = wanted.every((word) => text.includes(word))
          && selects.every(({ select, column }) => !select.value || `=${row.cells[column].textContent}` === select.value);
        row.hidden = !fits;
      }
      const shown = rows.filter((row) => !row.hidden).length;
      count.textContent = shown === rows.length ? "" : `${shown} of ${rows.length} rows`;
    };
    words.addEventListener("input", apply);
    for (const { select } of selects) select.addEventListener("change", apply);
    const tools = make("div", { className: "tools" }, words, ...selects.map((each) => each.label), count);
    table.closest(".tabled").prepend(tools);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    sortable(table);
    filterable(table);
  }

  // --- figures ---
  // Plotly's own button for sharing would send the figure to its makers' server.
  const config = {
    responsive: true, displaylogo: false, displayModeBar: "hover", showSendToCloud: false, plotlyServerURL: "",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  };
  const places = [...document.querySelectorAll(".plot")];
  const unpack = async () => {
    const packed = document.getElementById("plotly");
    const bytes = Uint8Array.from(atob(packed.textContent), (letter) => letter.charCodeAt(0));
    packed.remove();
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    document.head.append(make("script", { textContent: await new Response(stream).text() }));
  };
  const draw = async () => {
    if (!places.length) return;
    try {
      await unpack();
    } catch (error) {
      for (const place of places) place.textContent = "This figure needs a browser of 2023 or later; its numbers are in the tables.";
      return;
    }
    for (const place of places) {
      const source = place.querySelector("script");
      const figure = JSON.parse(source.textContent);
      source.remove();
      await Plotly.newPlot(place, figure.data, figure.layout, config);
    }
  };
  draw().then(() => { root.dataset.drawn = String(places.length); });

  // --- on paper: what is folded is left out, and figures are scaled to the page as they are ---
  const PAPER = 690;
  window.addEventListener("beforeprint", () => {
    for (const place of places) {
      const width = place.offsetWidth;
      Object.assign(place.style, { width: `${width}px`, zoom: Math.min(1, PAPER / width) });
    }
  });
  window.addEventListener("afterprint", () => {
    for (const place of places) Object.assign(place.style, { width: "", zoom: "" });
  });
})();
