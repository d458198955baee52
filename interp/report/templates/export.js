// Files a reader takes away: rows as CSV or JSON, charts as PNG or SVG. All are made here, none is sent.

const offers = {};

// Offer the rows of a panel; they are collected only when somebody asks for them.
function offer(panel, total, rows) {
  offers[panel] = rows;
  for (const button of document.querySelectorAll(`.exports[data-panel="${panel}"] [data-kind]`)) {
    button.textContent = `${button.dataset.kind.toUpperCase()} · ${plural(total, "row")}`;
  }
}

// RFC 4180; every text is quoted, so that "nan" and "null" stay words, and a missing number is an empty field.
function csv(rows) {
  if (!rows.length) return "";
  const field = (item) =>
    typeof item === "string" ? `"${item.replaceAll('"', '""')}"` : Number.isFinite(item) ? String(item) : "";
  const columns = Object.keys(rows[0]);
  return [columns, ...rows.map((row) => columns.map((column) => row[column]))]
    .map((row) => row.map(field).join(",") + "\r\n")
    .join("");
}

function fileName(panel) {
  return [data.model.split(/[\\/]/).pop(), panel, headLabel(state.head), state.scheme]
    .join("-")
    .replace(/[^\w.-]+/g, "_");
}

function save(name, type, text) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

const writers = {
  csv: (panel) => save(`${fileName(panel)}.csv`, "text/csv;charset=utf-8", csv(offers[panel]())),
  json: (panel) =>
    save(`${fileName(panel)}.json`, "application/json", JSON.stringify(offers[panel](), null, 1)),
};

const charts = {}; // name -> function that returns {data, layout}
async function saveChart(name, format) {
  const { data: traces, layout } = charts[name]();
  const box = make("div", { className: "offscreen" });
  document.body.append(box);
  const width = 900;
  const height = layout.height ?? 500;
  await Plotly.newPlot(box, traces, { ...layout, width, height }, { staticPlot: true });
  await Plotly.downloadImage(box, {
    format,
    width,
    height,
    scale: format === "png" ? 2 : 1,
    filename: fileName(name),
  });
  Plotly.purge(box);
  box.remove();
}

for (const box of document.querySelectorAll(".exports")) {
  for (const kind of ["csv", "json"]) {
    const button = make("button", { type: "button", onclick: () => writers[kind](box.dataset.panel) });
    button.dataset.kind = kind;
    box.append(button);
  }
  for (const format of box.dataset.charts ? ["png", "svg"] : []) {
    const text = format.toUpperCase();
    box.append(
      make("button", {
        type: "button",
        textContent: text,
        onclick: () => saveChart(box.dataset.charts, format),
      }),
    );
  }
}
