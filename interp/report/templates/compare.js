// Panel "Compare": A, B and B − A of one class on one colour scale, heads by change, and classes over all heads.

const comparison = data.comparison;
const compared = comparison && {
  heads: Object.fromEntries(
    Object.entries(comparison.heads).map(([name, { values }]) => [name, unpacked(values)]),
  ),
  classes: Object.fromEntries(
    Object.entries(comparison.classes).map(([name, part]) => [name, part.base64 ? numbers(part) : part]),
  ),
};
const comparable = () => compared.heads[state.scheme];
const SIDES = ["log2_amplification_a", "log2_amplification_b", "difference"];

function comparedRow(head, klass) {
  const { classes, n_tokens } = schemes[state.scheme];
  const at = head * classes.length + klass;
  return {
    ...headColumns(head),
    scheme: state.scheme,
    token_class: classes[klass],
    n_tokens: n_tokens[klass],
    ...Object.fromEntries(Object.entries(comparable()).map(([name, block]) => [name, exact(block[at], 4)])),
  };
}

// The chosen class, or the one whose heads differ most.
function comparedClass() {
  if (chosenClass() >= 0) return chosenClass();
  const { classes } = schemes[state.scheme];
  const size = (klass) => {
    if (few(state.scheme, klass) || classes[klass] === data.sink) return -1;
    let sum = 0;
    for (let head = 0; head < nHeads; head++) sum += comparable().difference[head * classes.length + klass] ** 2 || 0;
    return sum;
  };
  return classes.map((_, klass) => klass).reduce((best, klass) => (size(klass) > size(best) ? klass : best), 0);
}

const comparedRows = () => {
  const klass = comparedClass();
  return Array.from({ length: nHeads }, (_, head) => comparedRow(head, klass)).sort(
    (a, b) => Math.abs(b.difference || 0) - Math.abs(a.difference || 0),
  );
};

function comparedTraces() {
  const klass = comparedClass();
  const rows = Array.from({ length: nHeads }, (_, head) => comparedRow(head, klass));
  const wide = data.heads.length;
  return structuredClone(data.figures.comparison.data).map((trace, i) => {
    const side = Math.floor(i / 2);
    if (trace.type === "heatmap") {
      const plane = (read) => data.layers.map((_, layer) => rows.slice(layer * wide, (layer + 1) * wide).map(read));
      const roomy = Boolean(trace.texttemplate) && comparedWidth() >= 90 + 36 * wide;
      return {
        ...trace,
        z: plane((row) => known(row[SIDES[side]])),
        text: plane((row) => (roomy ? signed(row[SIDES[side]]) : signOf(row[SIDES[side]]))),
        texttemplate: "%{text}",
      };
    }
    const end = ["_a", "_b", ""][side];
    const covered = rows
      .map((row, head) => ({ row, head }))
      .filter(({ row }) => !(row[`ci_low${end}`] > 0 || row[`ci_high${end}`] < 0));
    return {
      ...trace,
      x: covered.map(({ head }) => head % wide),
      y: covered.map(({ head }) => Math.floor(head / wide)),
    };
  });
}

const signOf = (number) => (Number.isFinite(number) ? (number > 0 ? "+" : "−") : "·");
const stacked = () => byId("compared").clientWidth < 700;
const comparedWidth = () => byId("compared").clientWidth * (stacked() ? 0.8 : 0.28);

// Three grids beside one another, or where there is no room one under another.
function comparedLayout() {
  const layout = themed(structuredClone(data.figures.comparison.layout));
  const limit = comparison.heads[state.scheme].range;
  const one = 56 + Math.max(28 * data.layers.length, 110);
  [0, 1, 2].forEach((side) => {
    const end = side ? String(side + 1) : "";
    const title = ["A", "B", "B − A"][side];
    Object.assign(layout[`xaxis${end}`], { fixedrange: true, title: { text: title, standoff: 4 } });
    Object.assign(layout[`yaxis${end}`], { fixedrange: true });
    if (!stacked()) return;
    layout[`xaxis${end}`].domain = [0, 1];
    layout[`xaxis${end}`].anchor = `y${end}`;
    layout[`yaxis${end}`].domain = [0.76 - 0.38 * side, 1 - 0.38 * side];
  });
  Object.assign(layout.coloraxis, {
    cmin: -limit,
    cmax: limit,
    colorscale: stops(metrics.log2_amplification).map((rgb, i, list) => [i / (list.length - 1), `rgb(${rgb})`]),
  });
  layout.coloraxis.colorbar.thickness = 12;
  return Object.assign(layout, {
    height: stacked() ? 3 * one + 60 : one,
    margin: { l: 34, r: 8, t: 8, b: 44 },
    showlegend: false,
  });
}

function drawCompared() {
  byId("compared-part").hidden = !comparable();
  byId("compared-none").hidden = Boolean(comparable());
  if (comparable()) drawComparedHeads();
  drawDifferences();
}

// On the page the legend stands in words below the grids; a picture takes Plotly's own with it.
function drawGrids() {
  const layout = comparedLayout();
  layout.coloraxis.showscale = false;
  drawChart(byId("compared"), comparedTraces(), layout);
}

function drawComparedHeads() {
  drawGrids();
  const { log2_amplification: metric } = metrics;
  legend(byId("compared-legend"), metric, comparison.heads[state.scheme].range, metric.unit, [
    note("hatched", "hatched: 95% interval covers 0"),
    make("span", { className: "key", textContent: "one scale for A, B and B − A" }),
  ]);
  const rows = comparedRows();
  const name = visible(schemes[state.scheme].classes[comparedClass()]);
  byId("compared-title").textContent =
    chosenClass() >= 0 ? `Class ${name}` : `Class ${name}, whose heads differ most (choose another above)`;
  offer("compared", rows.length, comparedRows);
  fillTable(
    byId("compared-heads"),
    ["head", "A", "B", "B − A", "95% interval", "q"],
    rows.slice(0, LISTED).map((row) => [
      headButton(row),
      signed(row.log2_amplification_a),
      signed(row.log2_amplification_b),
      signed(row.difference),
      interval(row.ci_low, row.ci_high),
      chance(row.q),
    ]),
  );
  byId("compared-count").textContent =
    rows.length > LISTED ? `the ${LISTED} of ${count(rows.length)} that change most` : "most changed first";
}

function headButton({ layer, head }) {
  const label = `L${layer}H${head}`;
  return make("button", {
    type: "button",
    className: "link",
    textContent: label,
    onclick: () => change({ head: headByLabel.get(label) }),
  });
}

charts.compared = () => framed(comparedTraces(), { ...comparedLayout(), showlegend: true }, `A ${comparison.names[0]}, B ${comparison.names[1]}`);
function startCompare() {
  if (!comparison) return;
  options(
    byId("statistic"),
    [...new Set(compared.classes.statistic)].map((name) => [name, name.replaceAll("_", " ")]),
  );
  byId("statistic").value = state.statistic;
  byId("statistic").addEventListener("change", ({ target }) => change({ statistic: target.value }));
  drawCompared();
  if (data.figures.comparison) {
    byId("compared").on("plotly_click", ({ points: [{ x, y, data: trace }] }) => {
      if (trace.type === "heatmap") change({ head: y * data.heads.length + x });
    });
  }
  new ResizeObserver(() => comparable() && drawGrids()).observe(byId("panel-compare"));
  watch(["class", "scheme", "theme", "palette", "statistic"], afterPaint(drawCompared));
}
