// What does this head favour? A bar per class; a click on a bar colours the grid by its class.

function sortedClasses() {
  const { classes, n_tokens } = shownScheme();
  const { centre } = shownMetric();
  const number = (klass) => value(state.head, klass) - centre;
  // how far the interval is on one side of no effect; 0 where it holds it
  const side = (klass) => Math.max(rankOf(state.head, klass).strength, 0) * Math.sign(number(klass)) || 0;
  const orders = {
    value: (a, b) =>
      few(a) - few(b) || Number.isFinite(number(b)) - Number.isFinite(number(a)) || side(b) - side(a) || number(b) - number(a),
    n: (a, b) => n_tokens[b] - n_tokens[a],
    name: (a, b) => classes[a].localeCompare(classes[b]),
  };
  return classes.map((_, klass) => klass).sort(orders[state.sort]);
}

// The Python figure's traces, null band and bars, with this head's numbers in them.
function barTraces(rows) {
  const [band, trace] = look("bars").data;
  const metric = shownMetric();
  const paint = painter(metric, shownRange());
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
    customdata: rows.map((row) => [spokenRow(row, metric)]),
    hovertemplate: "%{customdata[0]}<extra></extra>",
  });
  Object.assign(trace.error_x, errorsOf(rows, metric), { color: text });
  trace.marker.color = rows.map((row) =>
    row.n_tokens < data.few ? data.colours.grey : paint(row[state.metric]).backgroundColor || data.colours.grey,
  );
  Object.assign(trace.marker.pattern, {
    shape: rows.map((row) => (indistinct(state.head, classesOf().indexOf(row.token_class)) ? "/" : "")),
    fgcolor: text,
  });
  trace.marker.line = { color: text, width: rows.map((row) => (row.token_class === state.class ? 2 : 0.5)) };
  return [band, trace];
}

function spokenRow(row, metric) {
  const n = `n = ${count(row.n_tokens)} in ${plural(row.n_documents, "document")}`;
  const lines = [`<b>${plain(row.token_class)}</b> · ${n}`];
  if (!row.n_tokens) return lines[0];
  if (metric.name !== "log2_amplification") lines.push(`${metric.title} ${withInterval(row, metric)}`);
  const ends = nullBand(row, metric);
  if (ends) lines.push(`95% of ${metric.control} ${ends.map((end) => printed(end, metric)).join(" to ")}`);
  lines.push(`A = ${signed(row.log2_amplification)} ${interval(row.ci_low, row.ci_high)}`);
  lines.push(`share ${percent(row.share_unbiased)} → ${percent(row.share)}`);
  return lines.join("<br>");
}

function barLabel(row) {
  const words = plain(dotLabel(row));
  return row.token_class === state.class ? `<b>▸ ${words}</b>` : words;
}

function barLayout(rows) {
  const { title, unit, centre, signed } = shownMetric();
  const layout = classLayout("bars", rows, `${title} (${unit})`, "▸ ");
  layout.yaxis.ticktext = rows.map(barLabel);
  const reach = shownRange() / 3; // a head that does little looks as if it does little
  layout.xaxis.tickformat = signed ? "" : ".0%";
  layout.xaxis.autorangeoptions = { include: signed ? [centre - reach, centre + reach] : [0, reach] };
  Object.assign(layout.shapes[0], { x0: centre, x1: centre });
  layout.margin.t = 8;
  return Object.assign(layout, { height: 76 + 22 * rows.length });
}

function drawWords(rows) {
  const metric = shownMetric();
  const thin = rows.filter((row) => row.n_tokens < data.few).length;
  const banded = rows.some((row) => nullBand(row, metric));
  const measured = rows.some((row) => Number.isFinite(row[metric.low]));
  byId("classes-sub").textContent =
    `${rows.length} classes of ${state.scheme}, each with its n: ${metric.title}` +
    (measured ? " and its 95% interval." : "; this metric has no interval.") +
    (thin ? ` ${thin} with fewer than ${data.few} tokens.` : "");
  byId("band-key").hidden = !banded;
  byId("band-of").textContent = metric.control;
  byId("bars-hatched").textContent = hatchReason(metric);
  byId("band-none").hidden = banded || !metric.null;
}

// Every metric of every class, and a button that chooses the class.
function table(rows) {
  const others = data.metrics.filter(({ name }) => !["log2_amplification", "share"].includes(name));
  const titles = others.flatMap(({ title, q }) => [title, ...(q ? [`${title}, q`] : [])]);
  return [
    ["class", "n", "documents", "A", "95% interval", "share", "without the bias", ...titles],
    rows.map((row) => [
      linkButton(visible(row.token_class), () => change({ class: row.token_class })),
      count(row.n_tokens),
      count(row.n_documents),
      signed(row.log2_amplification),
      interval(row.ci_low, row.ci_high),
      percent(row.share),
      percent(row.share_unbiased),
      ...others.flatMap((metric) => [
        withInterval(row, metric),
        ...(metric.q ? [chance(row[metric.q])] : []),
      ]),
    ]),
  ];
}

panel({
  name: "classes",
  box: "bars",
  soon: true,
  state: { sort: { first: "value", input: "sort", among: () => ["value", "n", "name"] } },
  watch: ["head", "scheme", "class", "metric", "palette", "theme", "sort"],
  rows: () => sortedClasses().map((klass) => cell(state.head, klass)),
  draw: drawWords,
  chart: (rows) => ({ data: barTraces(rows), layout: barLayout(rows), subject: shownMetric().title }),
  table,
  click({ pointIndex }) {
    const clicked = classesOf()[sortedClasses()[pointIndex]];
    change({ class: clicked === state.class ? OVERVIEW : clicked });
  },
});
