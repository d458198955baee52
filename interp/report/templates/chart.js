// What all Plotly charts of the page share: colours of the theme, one configuration, room for labels, a frame for a picture.

const config = {
  showSendToCloud: false,
  displaylogo: false,
  responsive: true,
  modeBarButtonsToRemove: ["toImage", "select2d", "lasso2d", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
};

// Where there is no value there is no dot. Lengths of error bars stay NaN: Plotly reads null as 0, and a bar of no length
// would look like certainty.
const known = (length) => (Number.isFinite(length) ? length : null);

// The page's colours in the theme that is on.
function paintBox() {
  const theme = dark() ? "dark" : "light";
  return Object.fromEntries(Object.entries(data.colours.page).map(([name, pair]) => [name, pair[theme]]));
}

function themed(layout) {
  const { text, line } = paintBox();
  for (const axis of Object.keys(layout).filter((key) => /^[xy]axis/.test(key))) {
    // without "allow" Plotly measures every label again, which takes longer than drawing all the rest
    Object.assign(layout[axis], { gridcolor: line, automargin: false, ticklabeloverflow: "allow" });
  }
  for (const shape of layout.shapes ?? []) shape.line.color = text;
  return Object.assign(layout, {
    title: undefined,
    font: { ...layout.font, color: text },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    dragmode: false,
  });
}

// The Python figure called `name`, to be filled with numbers.
const look = (name) => structuredClone(data.figures[name]);

// Letting Plotly measure its labels would draw every chart twice.
const pen = document.createElement("canvas").getContext("2d");
function textWidth(text) {
  pen.font = "bold 12px system-ui, sans-serif";
  return pen.measureText(text).width;
}

// Highest first; classes with few tokens last, because their numbers are mostly noise.
const byValue = (column) => (a, b) =>
  (a.n_tokens < data.few) - (b.n_tokens < data.few) || (b[column] || 0) - (a[column] || 0);

function dotLabel({ token_class, n_tokens }) {
  const before = !n_tokens ? "n = " : n_tokens < data.few ? "only " : "";
  return `${visible(token_class)} · ${before}${count(n_tokens)}`;
}

// Rows with enough tokens set an axis, by all that is drawn of them, so that a class of one token does not flatten the
// others (all rows do where none has enough). What goes on beyond the axis ends in a mark there, and the title says so.
// `ends` returns the numbers drawn of a row, `place` where it stands on the other axis; `include` is shown in any case.
function bound(chart, rows, ends, { include = [], axis = "x", place = (_, i) => i, enough = isEnough } = {}) {
  const sure = rows.filter(enough);
  const reached = [...(sure.length ? sure : rows).flatMap(ends), ...include].filter(Number.isFinite);
  if (!reached.length) return chart;
  const { data: traces, layout } = chart;
  layout.xaxis.title.text = layout.xaxis.title.text.split("<br>")[0]; // of the Python figure, what it says of its head
  const [least, most] = [Math.min(...reached), Math.max(...reached)];
  const room = 0.06 * (most - least) || 1;
  const range = (layout[`${axis}axis`].range = [least - room, most + room]);
  const cut = rows.flatMap((row, i) => {
    const own = ends(row).filter(Number.isFinite);
    const beyond = [Math.min(...own) < range[0], Math.max(...own) > range[1]];
    return beyond.flatMap((is, end) => (is ? [{ at: place(row, i), end: range[end], symbol: CUT[axis][end] }] : []));
  });
  if (rows.some((row) => row.n_tokens && !enough(row))) {
    Object.assign(layout, { height: layout.height + 16, margin: { ...layout.margin, b: layout.margin.b + 16 } });
  }
  if (!cut.length) return chart;
  const [along, across] = axis === "x" ? ["end", "at"] : ["at", "end"];
  traces.push({
    type: "scatter",
    mode: "markers",
    x: cut.map((mark) => mark[along]),
    y: cut.map((mark) => mark[across]),
    marker: { symbol: cut.map(({ symbol }) => symbol), size: 9, color: paintBox().soft },
    cliponaxis: false,
    hoverinfo: "skip",
    showlegend: false,
  });
  layout.xaxis.title.text += `<br>${axis === "x" ? "◂ ▸" : "▴ ▾"} goes on (n < ${data.few})`;
  return chart;
}
const CUT = { x: ["triangle-left", "triangle-right"], y: ["triangle-down", "triangle-up"] };
const isEnough = (row) => row.n_tokens >= data.few;
const endsOf = (...parts) => (row) => parts.flatMap(({ name, low, high }) => [row[name], row[low], row[high]]);

const errorsOf = (rows, { name, low, high }) => ({
  array: rows.map((row) => row[high] - row[name]),
  arrayminus: rows.map((row) => row[name] - row[low]),
});

// A trace of dots with intervals: `columns` names them, `down` moves it off the line of its class.
function dots(trace, rows, columns, colour, down) {
  const { name, low, high, title, unit } = columns;
  Object.assign(trace, {
    x: rows.map((row) => known(row[name])),
    y: rows.map((_, i) => i - down),
    customdata: rows.map((row) => [
      `${plain(row.token_class)}, n = ${count(row.n_tokens)}<br>${title}: ${signed(row[name], 3)} ${interval(row[low], row[high], 3)} ${unit}`,
    ]),
    hovertemplate: "%{customdata[0]}<extra></extra>",
  });
  Object.assign(trace.error_x, errorsOf(rows, columns), { color: colour });
  trace.marker.color = rows.map((row) => (row.n_tokens < data.few ? data.colours.grey : colour));
  return trace;
}

// The layout of a chart with a line per class, first on top; `figure` names the Python figure whose look it has, `mark` is
// what a label has room for besides.
function classLayout(figure, rows, title, mark = "") {
  const layout = themed(look(figure).layout);
  const widest = Math.max(0, ...rows.map((row) => textWidth(mark + dotLabel(row))));
  Object.assign(layout.yaxis, {
    tickvals: rows.map((_, i) => i),
    ticktext: rows.map((row) => plain(dotLabel(row))),
    range: [rows.length - 0.4, -0.6],
    fixedrange: true,
  });
  Object.assign(layout.xaxis, { fixedrange: true, title: { text: title, standoff: 8 } });
  return Object.assign(layout, {
    height: 100 + 22 * rows.length,
    margin: { l: Math.ceil(widest) + 14, r: 12, t: 36, b: 44 },
  });
}

// A chart as a picture to take away: with a title and a ground of its own.
function framed({ data: traces, layout, subject }) {
  return {
    data: traces,
    layout: {
      ...layout,
      title: { text: [data.model, headLabel(state.head), state.scheme, subject].map(plain).join(" · ") },
      margin: { ...layout.margin, t: layout.margin.t + 44 },
      height: layout.height + 40,
      paper_bgcolor: paintBox().panel,
    },
  };
}
