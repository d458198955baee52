// Panel "What does this head favour?": a bar per class; a click on a bar colours the grid by its class.

const bars = byId("bars");
const quiet = "#b9bcc2";
const config = {
  showSendToCloud: false,
  displaylogo: false,
  responsive: true,
  modeBarButtonsToRemove: ["select2d", "lasso2d"],
};

// Plotly draws no bar for null, but a bar of no length, which would look like certainty, for 0.
const known = (length) => (Number.isFinite(length) ? length : null);

function printColours() {
  return {
    text: getComputedStyle(document.body).color,
    background: getComputedStyle(byId("panel-classes")).backgroundColor,
  };
}

function sortedClasses() {
  const { classes, n_tokens } = schemes[state.scheme];
  const { centre } = metrics[state.metric];
  const number = (klass) => value(state.scheme, state.head, klass, state.metric) - centre;
  const orders = {
    value: (a, b) => Number.isFinite(number(b)) - Number.isFinite(number(a)) || number(b) - number(a),
    n: (a, b) => n_tokens[b] - n_tokens[a],
    name: (a, b) => classes[a].localeCompare(classes[b]),
  };
  return classes.map((_, klass) => klass).sort(orders[state.sort]);
}

const sortedRows = () => sortedClasses().map((klass) => cell(state.scheme, state.head, klass));

// The Python figure's trace with this head's numbers in it.
function barTrace(rows) {
  const trace = structuredClone(data.figures.bars.data[0]);
  const metric = metrics[state.metric];
  const paint = painter(metric, schemes[state.scheme].ranges[state.metric]);
  const centre = metric.centre;
  const text = pageColours().text;
  Object.assign(trace, {
    x: rows.map((row) => (Number.isFinite(row[state.metric]) ? row[state.metric] - centre : 0)),
    base: centre,
    y: rows.map((_, i) => i),
    text: rows.map((row) => (row.n_tokens ? printed(row[state.metric], metric) : "n = 0")),
    customdata: rows.map((row) => [spokenRow(row)]),
    hovertemplate: "%{customdata[0]}<extra></extra>",
  });
  Object.assign(trace.error_x, {
    array: rows.map((row) => known(row.ci_high - row.log2_amplification)),
    arrayminus: rows.map((row) => known(row.log2_amplification - row.ci_low)),
    visible: metric.interval,
    color: text,
  });
  trace.marker.color = rows.map((row) =>
    row.n_tokens < data.few ? quiet : paint(row[state.metric]).fill || quiet,
  );
  trace.marker.pattern.shape = rows.map((row) => (row.ci_low > 0 || row.ci_high < 0 ? "" : "/"));
  trace.marker.pattern.fgcolor = text;
  trace.marker.line = { color: text, width: rows.map((row) => (row.token_class === state.class ? 2 : 0.5)) };
  return trace;
}

function spokenRow(row) {
  const metric = metrics[state.metric];
  const n = `n = ${count(row.n_tokens)} in ${plural(row.n_documents, "document")}`;
  const lines = [`<b>${plain(row.token_class)}</b> · ${n}`];
  if (!row.n_tokens) return lines[0];
  if (!metric.interval) lines.push(`${metric.title} ${printed(row[state.metric], metric)}`);
  lines.push(`A = ${signed(row.log2_amplification)} ${interval(row.ci_low, row.ci_high)}`);
  lines.push(`share ${percent(row.share_unbiased)} → ${percent(row.share)}`);
  return lines.join("<br>");
}

function barLabel(row) {
  const before = !row.n_tokens ? "n = " : row.n_tokens < data.few ? "only " : "";
  const words = `${plain(row.token_class)} · ${before}${count(row.n_tokens)}`;
  return row.token_class === state.class ? `<b>▸ ${words}</b>` : words;
}

function barLayout(rows) {
  const layout = structuredClone(data.figures.bars.layout);
  const metric = metrics[state.metric];
  const { text, line } = pageColours();
  Object.assign(layout.yaxis, {
    tickvals: rows.map((_, i) => i),
    ticktext: rows.map(barLabel),
    autorange: "reversed",
    fixedrange: true,
    automargin: false,
  });
  Object.assign(layout.xaxis, {
    title: { text: `${metric.title} (${metric.unit})`, standoff: 8 },
    gridcolor: line,
    fixedrange: true,
    automargin: false,
    tickformat: metric.signed ? "" : ".0%",
  });
  const reach = schemes[state.scheme].ranges[state.metric] / 3; // a head that does little looks as if it does little
  layout.xaxis.autorangeoptions = {
    include: metric.signed ? [metric.centre - reach, metric.centre + reach] : [0, reach],
  };
  Object.assign(layout.shapes[0], { x0: metric.centre, x1: metric.centre, line: { width: 1, color: text } });
  return Object.assign(layout, {
    title: undefined,
    height: 76 + 22 * rows.length,
    margin: { l: labelWidth(rows), r: 12, t: 8, b: 44 },
    font: { ...layout.font, color: text },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    dragmode: false,
  });
}

// Room for the longest label; letting Plotly measure it would draw every chart twice.
const pen = document.createElement("canvas").getContext("2d");
function labelWidth(rows) {
  pen.font = "bold 12px system-ui, sans-serif";
  const widths = rows.map(
    (row) =>
      pen.measureText(
        `▸ ${visible(row.token_class)} · ${row.n_tokens < data.few ? "only " : ""}${count(row.n_tokens)}`,
      ).width,
  );
  return Math.ceil(Math.max(...widths)) + 14;
}

function drawBars() {
  const rows = sortedRows();
  const metric = metrics[state.metric];
  Plotly.react(bars, [barTrace(rows)], barLayout(rows), config);
  const thin = rows.filter((row) => row.n_tokens < data.few).length;
  byId("classes-sub").textContent =
    `${rows.length} classes of ${state.scheme}, each with its n: ${metric.title}` +
    (metric.interval ? " and its 95% interval" : "; this metric has no interval") +
    (thin ? `. ${thin} with fewer than ${data.few} tokens.` : ".");
  offer("classes", rows.length, () => rows);
  if (byId("classes-table").open) drawClassTable();
}

function drawClassTable() {
  const heads = [
    "class",
    "n",
    "documents",
    "A",
    "95% interval",
    "share",
    "without",
    "contrast",
    "g",
    "AUROC",
    "alignment",
  ];
  const rows = sortedRows().map((row) => {
    const button = make("button", {
      type: "button",
      className: "link",
      textContent: visible(row.token_class),
      onclick: () => change({ class: row.token_class }),
    });
    const texts = [
      count(row.n_tokens),
      count(row.n_documents),
      signed(row.log2_amplification),
      interval(row.ci_low, row.ci_high),
      percent(row.share),
      percent(row.share_unbiased),
      signed(row.bias_score_contrast),
      signed(row.hedges_g),
      printed(row.auroc, metrics.auroc),
      signed(row.alignment),
    ];
    return make(
      "tr",
      {},
      make("th", { scope: "row" }, button),
      ...texts.map((textContent) => make("td", { textContent })),
    );
  });
  byId("classes-table")
    .querySelector("table")
    .replaceChildren(headerRow(heads), make("tbody", {}, ...rows));
}

function startBars() {
  drawBars();
  bars.on("plotly_click", ({ points: [point] }) => {
    const clicked = schemes[state.scheme].classes[sortedClasses()[point.pointIndex]];
    change({ class: clicked === state.class ? OVERVIEW : clicked });
  });
}

charts.bars = () => {
  const rows = sortedRows();
  const layout = barLayout(rows);
  const { background } = printColours();
  const title = { text: `${plain(data.model)} · ${headLabel(state.head)} · ${plain(state.scheme)}` };
  return {
    data: [barTrace(rows)],
    layout: {
      ...layout,
      title,
      margin: { ...layout.margin, t: 48 },
      height: layout.height + 40,
      paper_bgcolor: background,
    },
  };
};
byId("classes-table").addEventListener("toggle", () => byId("classes-table").open && drawClassTable());
watch(["head", "scheme", "class", "metric", "palette", "theme", "sort"], drawBars);
