// Panel "What does this head favour?": a bar per class; a click on a bar colours the grid by its class.

const bars = byId("bars");

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

// The Python figure's traces, null band and bars, with this head's numbers in them.
function barTraces(rows) {
  const [band, trace] = structuredClone(data.figures.bars.data);
  const metric = metrics[state.metric];
  const paint = painter(metric, schemes[state.scheme].ranges[state.metric]);
  const { text, band: shade } = paintBox();
  const bands = rows.map((row) => nullBand(row, metric));
  Object.assign(band, {
    x: bands.map((ends) => (ends ? ends[1] - ends[0] : 0)),
    base: bands.map((ends) => (ends ? ends[0] : metric.centre)),
    y: rows.map((_, i) => i),
    marker: { color: shade, line: { width: 0 } },
  });
  Object.assign(trace, {
    x: rows.map((row) => (Number.isFinite(row[state.metric]) ? row[state.metric] - metric.centre : 0)),
    base: metric.centre,
    y: rows.map((_, i) => i),
    text: rows.map((row) => (row.n_tokens ? printed(row[state.metric], metric) : "n = 0")),
    customdata: rows.map((row) => [spokenRow(row)]),
    hovertemplate: "%{customdata[0]}<extra></extra>",
  });
  Object.assign(trace.error_x, {
    array: rows.map((row) => row[metric.high] - row[metric.name]),
    arrayminus: rows.map((row) => row[metric.name] - row[metric.low]),
    color: text,
  });
  trace.marker.color = rows.map((row) =>
    row.n_tokens < data.few ? data.colours.grey : paint(row[state.metric]).fill || data.colours.grey,
  );
  Object.assign(trace.marker.pattern, {
    shape: rows.map((row) => (indistinctRow(row, metric) ? "/" : "")),
    fgcolor: text,
  });
  trace.marker.line = { color: text, width: rows.map((row) => (row.token_class === state.class ? 2 : 0.5)) };
  return [band, trace];
}

function spokenRow(row) {
  const metric = metrics[state.metric];
  const n = `n = ${count(row.n_tokens)} in ${plural(row.n_documents, "document")}`;
  const lines = [`<b>${plain(row.token_class)}</b> · ${n}`];
  if (!row.n_tokens) return lines[0];
  if (metric.name !== "log2_amplification") lines.push(`${metric.title} ${withInterval(row, metric)}`);
  const ends = nullBand(row, metric);
  if (ends) lines.push(`95% of random directions ${ends.map((end) => printed(end, metric)).join(" to ")}`);
  lines.push(`A = ${signed(row.log2_amplification)} ${interval(row.ci_low, row.ci_high)}`);
  lines.push(`share ${percent(row.share_unbiased)} → ${percent(row.share)}`);
  return lines.join("<br>");
}

function barLabel(row) {
  const words = plain(dotLabel(row));
  return row.token_class === state.class ? `<b>▸ ${words}</b>` : words;
}

function barLayout(rows) {
  const layout = themed(structuredClone(data.figures.bars.layout));
  const metric = metrics[state.metric];
  Object.assign(layout.yaxis, classAxis(rows, barLabel));
  const reach = schemes[state.scheme].ranges[state.metric] / 3; // a head that does little looks as if it does little
  Object.assign(layout.xaxis, {
    title: { text: `${metric.title} (${metric.unit})`, standoff: 8 },
    fixedrange: true,
    tickformat: metric.signed ? "" : ".0%",
    autorangeoptions: { include: metric.signed ? [metric.centre - reach, metric.centre + reach] : [0, reach] },
  });
  Object.assign(layout.shapes[0], { x0: metric.centre, x1: metric.centre });
  return Object.assign(layout, {
    height: 76 + 22 * rows.length,
    margin: { l: labelWidth(rows), r: 12, t: 8, b: 44 },
  });
}

const labelWidth = (rows) => Math.ceil(Math.max(...rows.map((row) => textWidth(`▸ ${dotLabel(row)}`)))) + 14;

function drawBars() {
  const rows = sortedRows();
  const metric = metrics[state.metric];
  drawChart(bars, barTraces(rows), barLayout(rows));
  const thin = rows.filter((row) => row.n_tokens < data.few).length;
  const banded = rows.some((row) => nullBand(row, metric));
  byId("classes-sub").textContent =
    `${rows.length} classes of ${state.scheme}, each with its n: ${metric.title}` +
    (rows.some((row) => Number.isFinite(row[metric.low]))
      ? " and its 95% interval."
      : "; this metric has no interval.") +
    (thin ? ` ${thin} with fewer than ${data.few} tokens.` : "");
  byId("band-key").hidden = !banded;
  byId("band-none").hidden = banded || !metric.null;
  offer("classes", rows.length, () => rows);
  if (byId("classes-table").open) drawClassTable();
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
  return framed(barTraces(rows), barLayout(rows), metrics[state.metric].title);
};
watch(["head", "scheme", "class", "metric", "palette", "theme", "sort"], drawBars);
