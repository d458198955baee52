// What all Plotly charts of the page share: colours of the theme, one configuration, room for labels, a frame for a picture.

const config = {
  showSendToCloud: false,
  displaylogo: false,
  responsive: true,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
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
