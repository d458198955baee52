// Compare: A, B and B − A of one class on one colour scale, heads by change, and classes over all heads.

const compared = data.panels.compare;
const SIDES = ["log2_amplification_a", "log2_amplification_b", "difference"];
const comparable = () => compared.heads[state.scheme];

const comparedRow = (head, klass) => ({
  ...headColumns(head),
  scheme: state.scheme,
  token_class: classesOf()[klass],
  n_tokens: shownScheme().n_tokens[klass],
  ...columnsAt(comparable(), head, klass),
});

// The chosen class, or the one whose heads differ most.
function comparedClass() {
  if (chosenClass() >= 0) return chosenClass();
  const classes = classesOf();
  const { difference } = comparable().values;
  const size = (klass) => {
    if (few(klass) || classes[klass] === data.sink) return -1;
    return headNumbers.reduce((sum, head) => sum + (difference[head * classes.length + klass] ** 2 || 0), 0);
  };
  return classes.map((_, klass) => klass).reduce((best, klass) => (size(klass) > size(best) ? klass : best), 0);
}

function comparedInOrder() {
  const klass = comparedClass();
  return headNumbers.map((head) => comparedRow(head, klass));
}

const comparedRows = () =>
  comparable() ? comparedInOrder().sort((a, b) => nearestEnd(b) - nearestEnd(a) || sizeOf(b) - sizeOf(a)) : [];
const sizeOf = (row) => Math.abs(row.difference || 0);
const nearestEnd = ({ ci_low, ci_high }) => (Number.isFinite(ci_low) ? Math.max(ci_low, -ci_high) : -Infinity);

function comparedTraces() {
  const rows = comparedInOrder();
  return look("compared").data.map((trace, i) => {
    const side = Math.floor(i / 2);
    if (trace.type === "heatmap") {
      const plane = (read) => byLayer(rows).map((heads) => heads.map((row) => read(row[SIDES[side]])));
      const roomy = Boolean(trace.texttemplate) && comparedWidth() >= 90 + 36 * wide;
      return { ...trace, z: plane(known), text: plane(roomy ? (x) => signed(x) : signOf), texttemplate: "%{text}" };
    }
    const end = ["_a", "_b", ""][side];
    const covered = headNumbers.filter((head) => !(rows[head][`ci_low${end}`] > 0 || rows[head][`ci_high${end}`] < 0));
    return { ...trace, ...gridPlaces(covered) };
  });
}

const stacked = () => byId("compared").clientWidth < 700;
const comparedWidth = () => byId("compared").clientWidth * (stacked() ? 0.8 : 0.28);

// Three grids beside one another, or where there is no room one under another.
function comparedLayout() {
  const layout = themed(look("compared").layout);
  const limit = comparable().range;
  const one = 56 + Math.max(28 * data.layers.length, 110);
  ["A", "B", "B − A"].forEach((title, side) => {
    const end = side ? String(side + 1) : "";
    const [xaxis, yaxis] = [layout[`xaxis${end}`], layout[`yaxis${end}`]];
    Object.assign(xaxis, { fixedrange: true, title: { text: title, standoff: 4 } });
    yaxis.fixedrange = true;
    if (!stacked()) return;
    Object.assign(xaxis, { domain: [0, 1], anchor: `y${end}` });
    yaxis.domain = [0.76 - 0.38 * side, 1 - 0.38 * side];
  });
  Object.assign(layout.coloraxis, { cmin: -limit, cmax: limit, colorscale: plotlyScale(metrics.log2_amplification) });
  layout.coloraxis.colorbar.thickness = 12;
  return Object.assign(layout, {
    height: stacked() ? 3 * one + 60 : one,
    margin: { l: 34, r: 8, t: 8, b: 44 },
    showlegend: false,
  });
}

// On the page the legend stands in words below the grids; a picture takes Plotly's own with it.
function comparedChart() {
  if (!comparable()) return null;
  const layout = comparedLayout();
  layout.coloraxis.showscale = false;
  return { data: comparedTraces(), layout };
}

function comparedPicture() {
  const layout = { ...comparedLayout(), showlegend: true };
  const [a, b] = compared.names;
  return framed({ data: comparedTraces(), layout, subject: `A ${a}, B ${b}` });
}

function drawCompared(rows) {
  byId("compared-part").hidden = !comparable();
  byId("compared-none").hidden = Boolean(comparable());
  if (!comparable()) return;
  const { log2_amplification: metric } = metrics;
  legend(byId("compared-legend"), metric, comparable().range, metric.unit, [
    note("ring", "ring: 95% interval holds 0"),
    make("span", { className: "key", textContent: "one scale for A, B and B − A" }),
  ]);
  const name = visible(classesOf()[comparedClass()]);
  byId("compared-title").textContent =
    chosenClass() >= 0 ? `Class ${name}` : `Class ${name}, whose heads differ most (choose another above)`;
  byId("compared-count").textContent =
    rows.length > LISTED ? `the ${LISTED} of ${count(rows.length)} that change most` : "most changed first";
}

function comparedTable(rows) {
  return [
    ["head", "A", "B", "B − A", "95% interval", "q"],
    rows.slice(0, LISTED).map((row) => [
      linkButton(labelOf(row), () => change({ head: headByLabel.get(labelOf(row)) })),
      ...SIDES.map((side) => signed(row[side])),
      interval(row.ci_low, row.ci_high),
      chance(row.q),
    ]),
  ];
}

// One statistic of every class over all heads, which needs no pairing of heads.
function differenceRows() {
  const { scheme: named, token_class, statistic, interval_over, n_tokens, ...numbers } = compared.classes;
  return named
    .map((scheme, at) => ({
      scheme,
      token_class: token_class[at],
      n_tokens: n_tokens[at],
      statistic: statistic[at],
      ...numbersAt(numbers, at),
      interval_over: interval_over[at],
    }))
    .filter((row) => row.scheme === state.scheme && row.statistic === state.statistic)
    .sort(byValue("difference"));
}

function differenceChart(rows) {
  const { data: [trace] } = look("differences"); // prettier-ignore
  const columns = { name: "difference", low: "ci_low", high: "ci_high", title: "B − A", unit: "" };
  return {
    data: [dots(trace, rows, columns, paintBox().accent, 0)],
    layout: classLayout("differences", rows, "B − A"),
    subject: state.statistic,
  };
}

const statistics = [...new Set(compared.classes.statistic)];
options(byId("statistic"), statistics.map((name) => [name, name.replaceAll("_", " ")]));
const WATCHED = ["class", "scheme", "theme", "palette", "statistic"];
const grids = panel({
  name: "compared",
  watch: WATCHED,
  rows: comparedRows,
  draw: drawCompared,
  chart: comparedChart,
  picture: comparedPicture,
  table: comparedTable,
  click: ({ x, y, data: trace }) => trace.type === "heatmap" && change({ head: y * wide + x }),
});
new ResizeObserver(() => comparable() && drawChart(grids, [])).observe(byId("panel-compare"));
panel({
  name: "differences",
  state: { statistic: { first: "mean_absolute", input: "statistic", among: () => statistics } },
  watch: WATCHED,
  rows: differenceRows,
  draw(rows) {
    byId("differences-words").textContent = rows.length
      ? `Interval over ${[...new Set(rows.map((row) => row.interval_over))].join("; ")}.`
      : "This scheme is not in both results.";
  },
  chart: differenceChart,
  table: (rows) => [
    ["class", "n", "A", "B", "B − A", "95% interval"],
    rows.map((row) => [
      visible(row.token_class),
      count(row.n_tokens),
      ...[row.value_a, row.value_b, row.difference].map((number) => signed(number, 3)),
      interval(row.ci_low, row.ci_high, 3),
    ]),
  ],
});
