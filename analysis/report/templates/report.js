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

  // --- glossary: the first mention of a term in each text explains it ---
  const terms = Object.keys(GLOSSARY).sort((a, b) => b.length - a.length);
  const literal = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const anyTerm = new RegExp(`(?<![\\p{L}\\d])(${terms.map(literal).join("|")})(?![\\p{L}\\d])`, "u");
  const explain = (block) => {
    const known = new Set();
    const walker = document.createTreeWalker(block, NodeFilter.SHOW_TEXT);
    const nodes = [];
    while (walker.nextNode()) if (!walker.currentNode.parentElement.closest("abbr, code, pre, script, h3")) nodes.push(walker.currentNode);
    for (const node of nodes) {
      // Odd places hold the terms.
      const parts = node.data.split(anyTerm);
      if (parts.length < 2) continue;
      node.replaceWith(...parts.map((text, i) => {
        if (i % 2 === 0 || known.has(text)) return text;
        known.add(text);
        return make("abbr", { title: GLOSSARY[text], tabIndex: 0, textContent: text });
      }));
    }
  };
  for (const block of document.querySelectorAll(".headline, .findings li, section > p, .part > p, figcaption, caption, section li, .verdict")) explain(block);

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
    displaylogo: false, displayModeBar: "hover", showSendToCloud: false, plotlyServerURL: "",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  };
  const places = [...document.querySelectorAll(".plot")];
  let isPrinting = false;
  const unpack = async () => {
    const packed = document.getElementById("plotly");
    const bytes = Uint8Array.from(atob(packed.textContent), (letter) => letter.charCodeAt(0));
    packed.remove();
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    document.head.append(make("script", { textContent: await new Response(stream).text() }));
  };
  // On a narrow page panels stand one below the other, and the legend gets the lines that it needs.
  const NARROW = 560, PANEL = 250, ENTRY = 7.4, LINE = 30, LEFT = 66, RIGHT = 12;
  const axes = (layout, letter) => Object.keys(layout).filter((key) => new RegExp(`^${letter}axis\\d*$`).test(key))
    .sort((a, b) => (parseInt(a.slice(5)) || 1) - (parseInt(b.slice(5)) || 1));
  const narrowed = (layout, data, width) => {
    if (width >= NARROW || width === 0) return layout;
    const made = structuredClone(layout);
    const [xs, ys] = [axes(made, "x"), axes(made, "y")];
    const names = [...new Set(data.filter((trace) => trace.showlegend !== false && trace.name).map((trace) => trace.name))];
    const perLine = Math.max(1, Math.floor((width - LEFT - RIGHT) / (48 + ENTRY * Math.max(0, ...names.map((name) => name.length)))));
    const top = names.length < 2 ? 44 : 34 + LINE * Math.ceil(names.length / perLine);
    made.margin = { ...made.margin, l: LEFT, r: RIGHT, t: top, b: 92 };
    for (const note of made.annotations ?? []) {
      if (note.name === "x title") note.text = note.text.replace("; ", "<br>");
    }
    const isRow = xs.length > 1 && xs.length === ys.length && xs.some((key) => (made[key].domain ?? [0, 1])[0] > 0);
    if (!isRow) return made;
    const gap = 0.28 / xs.length;
    const size = (1 - gap * (xs.length - 1)) / xs.length;
    const step = size + gap;
    const places = xs.map((key, i) => ({ old: [made[key].domain, made[ys[i]].domain], top: 1 - i * step, bottom: Math.max(0, 1 - i * step - size) }));
    for (const note of made.annotations ?? []) {
      const place = places.find(({ old: [x, y] }) => note.name !== "x title" && note.xref === "paper" && note.x >= x[0] && note.x <= x[1] && Math.abs(note.y - y[1]) < 0.02);
      if (place) Object.assign(note, { x: 0.5, y: place.top });
    }
    xs.forEach((key, i) => {
      made[key].domain = [0, 1];
      Object.assign(made[ys[i]], { domain: [places[i].bottom, places[i].top], showticklabels: true });
    });
    made.height = top + made.margin.b + PANEL * xs.length;
    return made;
  };

  // Figures as files: the numbers behind each mark, and the drawing itself.
  const KINDS = { f8: Float64Array, f4: Float32Array, i8: BigInt64Array, i4: Int32Array, i2: Int16Array, i1: Int8Array, u4: Uint32Array, u2: Uint16Array, u1: Uint8Array };
  const list = (values) => {
    if (values?.bdata === undefined) return values ? [...values] : [];
    const flat = [...new KINDS[values.dtype](Uint8Array.from(atob(values.bdata), (letter) => letter.charCodeAt(0)).buffer)].map(Number);
    const columns = Number(String(values.shape ?? "").split(",")[1]) || 0;
    return columns ? Array.from({ length: flat.length / columns }, (_, i) => flat.slice(i * columns, (i + 1) * columns)) : flat;
  };
  const rowsOf = (gd) => {
    const rows = [["panel", "series", "x", "y", "low", "high"]];
    const titles = (gd.layout.annotations ?? []).filter((note) => note.xref === "paper" && note.name !== "x title").map((note) => note.text);
    for (const trace of gd.data) {
      if ((trace.hoverinfo === "skip" && trace.fill) || trace.name === "beyond the axis") continue;
      const number = parseInt(String(trace.xaxis ?? "x").slice(1)) || 1;
      const [panel, name] = [titles[number - 1] ?? "", trace.name ?? ""];
      if (trace.type === "heatmap") {
        const [xs, ys] = [list(trace.x), list(trace.y)];
        list(trace.z).forEach((row, i) => list(row).forEach((value, k) => rows.push([panel, ys[i], xs[k], value, "", ""])));
        continue;
      }
      const axis = gd.layout[`xaxis${number > 1 ? number : ""}`] ?? {};
      const places = list(trace.x);
      const xs = Array.isArray(places[0]) ? places[1].map((value, i) => `${places[0][i]}, ${value}`) : places;
      const [ys, labels] = [list(trace.y), list(trace.meta?.labels)];
      const [below, above] = [list(trace.error_y?.arrayminus), list(trace.error_y?.array)];
      const [low, high] = [list(trace.meta?.low), list(trace.meta?.high)];
      xs.forEach((x, i) => {
        const tick = list(axis.tickvals).indexOf(x);
        const where = labels[i] ?? (tick < 0 ? x : String(axis.ticktext[tick]).split("<br>")[0]);
        rows.push([panel, name, where, ys[i], low[i] ?? (below.length ? ys[i] - below[i] : ""), high[i] ?? (above.length ? ys[i] + above[i] : "")]);
      });
    }
    return rows;
  };
  const quoted = (value) => /[",\n]/.test(value ?? "") ? `"${String(value).replaceAll('"', '""')}"` : String(value ?? "");
  const csv = (gd) => rowsOf(gd).map((row) => row.map(quoted).join(",")).join("\n") + "\n";
  const save = (name, url) => make("a", { href: url, download: name }).click();
  const savable = (place) => {
    const figure = place.closest("figure");
    const name = figure.querySelector("figcaption").id.replace("caption-", "");
    const button = (text, act) => {
      const made = make("button", { type: "button", textContent: text });
      made.setAttribute("aria-label", `Save the figure ${name} as ${text}`);
      made.addEventListener("click", act);
      return made;
    };
    const size = () => ({ format: "svg", width: place.offsetWidth, height: place.offsetHeight });
    figure.insertBefore(make("div", { className: "saves" },
      button("SVG", async () => save(`${name}.svg`, await Plotly.toImage(place, size()))),
      button("CSV", () => save(`${name}.csv`, URL.createObjectURL(new Blob([csv(place)], { type: "text/csv" }))))),
    figure.querySelector("figcaption"));
  };

  const show = async (place) => {
    if (place.dataset.shown || place.closest("details:not([open])")) return;
    place.dataset.shown = "yes";
    const source = place.querySelector("script");
    const figure = JSON.parse(source.textContent);
    source.remove();
    let drawnAt = 0;
    const fit = () => {
      const width = place.parentElement.clientWidth;
      if (isPrinting || !width || Math.abs(width - drawnAt) < 2) return undefined;
      drawnAt = width;
      const layout = narrowed(structuredClone(figure.layout), figure.data, width);
      if (layout.height) place.style.minHeight = `${layout.height}px`;
      return Plotly.react(place, figure.data, layout, { ...config, displayModeBar: width < NARROW ? false : "hover" });
    };
    await fit();
    savable(place);
    new ResizeObserver(fit).observe(place.parentElement);  // a phone is turned, a window made narrower
  };
  // What is folded has no width: it is drawn when it is unfolded.
  const draw = async () => {
    if (!places.length) return;
    try {
      await unpack();
    } catch (error) {
      for (const place of places) place.textContent = "This figure needs a browser of 2023 or later; its numbers are in the tables.";
      return;
    }
    for (const place of places) await show(place);
    for (const part of document.querySelectorAll("details")) {
      part.addEventListener("toggle", async () => {
        for (const place of part.querySelectorAll(".plot")) await show(place);
      });
    }
  };
  draw().then(() => { root.dataset.drawn = String(places.length); });

  // --- links into what is folded ---
  const reveal = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let part = target && target.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
    if (target) target.scrollIntoView();
  };
  window.addEventListener("hashchange", reveal);
  reveal();

  // --- on paper: what is folded is left out, and figures are scaled to the page as they are ---
  const PAPER = 690;
  window.addEventListener("beforeprint", () => {
    isPrinting = true;
    for (const place of places) {
      const width = place.offsetWidth;
      Object.assign(place.style, { width: `${width}px`, zoom: Math.min(1, PAPER / width) });
    }
  });
  window.addEventListener("afterprint", () => {
    isPrinting = false;
    for (const place of places) Object.assign(place.style, { width: "", zoom: "" });
  });
})();
