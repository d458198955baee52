// What a panel is to the page. Its files are made here and none is sent: rows as CSV or JSON, charts as PNG or SVG.

// panel({
//   name    of its files, of its buttons `.exports[data-panel=name]` and of its table `#name-table`;
//   state   what can be chosen in it, as in state.js: it comes to the address, to its input and back by itself;
//   watch   the parts of the state that it looks at, and so the changes after which it is drawn again;
//   rows    what it shows, as objects of one table; with `total`, the number of them, only when somebody asks for them;
//   draw    (rows) draws what is no chart;
//   chart   (rows) returns {data, layout, subject}, drawn in `#box` (by default its name), or null for none;
//   picture returns {data, layout} to take away, by default the chart with a title;
//   named   returns what its files are called where that is not the chosen class and metric: parts as in `fileName`, null
//           for one on which nothing here depends;
//   table   (rows) returns [heads, rows of cells] for `#name-table`, which is filled while it is open;
//   click   (point) is called for a point of the chart; keys: key -> what it does; soon: drawn before the next paint.
// })
const panels = [];
function panel(declared) {
  const one = { box: declared.name, state: {}, watch: [], keys: {}, ...declared };
  const draw = () => drawPanel(one);
  panels.push(Object.assign(one, { redraw: draw }));
  remember(one.state);
  watch(one.watch, one.soon ? draw : afterPaint(draw));
  addButtons(one);
  byId(`${one.name}-table`)?.addEventListener("toggle", draw);
  return one;
}

function drawPanel(one) {
  const rows = one.total ? [] : one.rows();
  drawChart(one, rows);
  one.draw?.(rows);
  for (const button of buttonsOf(one).querySelectorAll("[data-kind]"))
    button.textContent = `${button.dataset.kind.toUpperCase()} · ${plural(one.total?.() ?? rows.length, "row")}`;
  const place = one.table && byId(`${one.name}-table`);
  if (place && place.open !== false) fillTable(place.querySelector("table"), ...one.table(rows));
}

function drawChart(one, rows) {
  const chart = one.chart?.(rows);
  if (!chart) return;
  const box = byId(one.box);
  one.config ??= { ...config, modeBarButtonsToAdd: [pictureButton(one)] };
  Plotly.react(box, chart.data, chart.layout, one.config);
  if (!one.click || one.heard) return;
  one.heard = true;
  box.on("plotly_click", ({ points: [point] }) => one.click(point));
}

const buttonsOf = ({ name }) => document.querySelector(`.exports[data-panel="${name}"]`);

function addButtons(one) {
  const add = (textContent, onclick) => {
    const button = make("button", { type: "button", textContent, onclick });
    buttonsOf(one).append(button);
    return button;
  };
  for (const kind of ["csv", "json"]) add("", () => writers[kind](one)).dataset.kind = kind;
  for (const format of one.chart || one.picture ? ["png", "svg"] : [])
    add(format.toUpperCase(), () => savePicture(one, format));
}

// RFC 4180; every text is quoted, so that "nan" and "null" stay words, and a missing number is an empty field. An apostrophe
// stands before what a spreadsheet would take for a formula: `write_csv` of interp/analysis/saving.py writes the same.
const numeral = String.raw`[-+]?\d+(\.\d+)?(e[-+]?\d+)?`;
const formula = new RegExp(`^(?!${numeral}( ${numeral})*$)(?='*[=+\\-@\\t\\r])`);
function csv(rows) {
  if (!rows.length) return "";
  const quoted = (text) => `"${text.replace(formula, "'").replaceAll('"', '""')}"`;
  const field = (item) => (typeof item === "string" ? quoted(item) : Number.isFinite(item) ? String(item) : "");
  const columns = Object.keys(rows[0]);
  return [columns, ...rows.map((row) => columns.map((column) => row[column]))]
    .map((row) => row.map(field).join(",") + "\r\n")
    .join("");
}

// Every file says what is in it: model, panel, head, scheme, class and metric, and what else a panel names.
function fileName({ name, named }) {
  const model = data.model.split(/[\\/]/).pop();
  const { scheme, class: token_class, metric } = state;
  const parts = { model, name, head: headLabel(state.head), scheme, class: token_class, metric, ...named?.() };
  parts.class = parts.class === OVERVIEW ? "every-class" : (parts.class?.slice(0, LONGEST) ?? null);
  return Object.values(parts)
    .filter((part) => part !== null)
    .join("-")
    .replace(/[^\p{L}\p{N}_.-]+/gu, "_");
}

// In place of Plotly's own, which calls every picture "newplot" and gives it no title.
const pictureButton = (one) => ({
  name: "picture",
  title: "Download plot as a PNG",
  icon: Plotly.Icons.camera,
  click: () => savePicture(one, "png"),
});

function save(name, type, text) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

const writers = {
  csv: (one) => save(`${fileName(one)}.csv`, "text/csv;charset=utf-8", csv(one.rows())),
  json: (one) => save(`${fileName(one)}.json`, "application/json", JSON.stringify(one.rows(), null, 1)),
};

async function savePicture(one, format) {
  const { data: traces, layout } = one.picture?.() ?? framed(one.chart(one.rows()));
  const box = make("div", { className: "offscreen" });
  document.body.append(box);
  const size = { width: 900, height: layout.height ?? 500 };
  await Plotly.newPlot(box, traces, { ...layout, ...size }, { staticPlot: true });
  const scale = format === "png" ? 2 : 1;
  await Plotly.downloadImage(box, { format, ...size, scale, filename: fileName(one) });
  Plotly.purge(box);
  box.remove();
}
