// Heads among heads: two numbers of every head against each other, a third as colour, a fourth as size, and all in a table.

const found = data.panels.scatter;
const all = Object.fromEntries(found.groups.flatMap((group) => group.metrics).map((one) => [one.name, one]));
const names = Object.keys(all);
const even = (name) => found.even[name.replace(/_unbiased$/, "")] ?? NaN;

// What the grid shows, as rows: the chosen class, or of each head its strongest.
let ofClass = [];
function readClass() {
  ofClass = Array(nHeads).fill({});
  for (const row of panels.find(({ name }) => name === "heads").rows()) ofClass[headByLabel.get(labelOf(row))] = row;
}

function numberOf(name, head) {
  if (name in metrics) return ofClass[head][name] ?? NaN;
  if (name === "layer" || name === "head") return headColumns(head)[name];
  const block = found.heads && name in found.heads.values ? found.heads : found.schemes[state.scheme];
  return block?.values[name]?.[head] ?? NaN;
}

const numbersOf = (name) => headNumbers.map((head) => numberOf(name, head));

function worded(name, number) {
  const { share, signed: hasSign, unit } = all[name];
  if (!Number.isFinite(number) || unit === "number") return Number.isFinite(number) ? String(number) : "–";
  if (name in metrics) return printed(number, metrics[name]);
  if (share) return `${signed(100 * number, 1).slice(hasSign || number < 0 ? 0 : 1) || "0.0"}%`;
  return hasSign ? signed(number) : number.toFixed(2);
}

const fullRow = (head) => ({
  ...headColumns(head),
  ...ofClass[head],
  ...Object.fromEntries(names.filter((name) => !(name in metrics)).map((name) => [name, exact(numberOf(name, head), 7)])),
});

// Colours of a number: round 0, or round what means no effect, where it has a sign.
function colouring(name) {
  const values = numbersOf(name).filter(Number.isFinite);
  const metric = metrics[name] ?? { centre: 0, signed: all[name].signed };
  const most = Math.max(1e-9, ...values.map((number) => Math.abs(number - metric.centre)));
  const limit = name in metrics ? shownScheme().ranges[name] : most;
  if (metric.signed) return { metric, low: metric.centre - limit, high: metric.centre + limit };
  return { metric, low: Math.min(...values), high: Math.max(...values) };
}

// Areas grow with the distance from 0, or from the least value where all are of one sign.
function diameters(values) {
  const sure = values.filter(Number.isFinite);
  const [low, high] = [Math.min(...sure), Math.max(...sure)];
  const from = low < 0 && high > 0 ? 0 : high > 0 ? low : high;
  const most = Math.max(1e-12, ...sure.map((number) => Math.abs(number - from)));
  return values.map((number) => 6 + 18 * Math.sqrt(Number.isFinite(number) ? Math.abs(number - from) / most : 0));
}

const crossed = (head) => {
  const klass = classesOf().indexOf(ofClass[head].token_class);
  return klass >= 0 && indistinct(head, klass);
};

function pointWords(head) {
  const chosen = [...new Set([state.x, state.y, state.colour, state.size])].filter(Boolean);
  return [headLabel(head), ...chosen.map((name) => plain(`${called(name, head)} ${worded(name, numberOf(name, head))}`))].join("<br>");
}

const called = (name, head) =>
  name in metrics ? `${all[name].title} of ${visible(ofClass[head].token_class ?? "no class")}` : all[name].title;

function chart() {
  readClass();
  const { data: traces, layout } = look("scatter");
  const { soft } = paintBox();
  const [points] = traces;
  const colour = state.colour && colouring(state.colour);
  Object.assign(points, {
    x: numbersOf(state.x).map(known),
    y: numbersOf(state.y).map(known),
    text: null,
    customdata: headNumbers.map((head) => [head, pointWords(head)]),
    hovertemplate: "%{customdata[1]}<extra></extra>",
  });
  points.marker = {
    color: colour ? numbersOf(state.colour).map(known) : soft,
    ...(colour && { colorscale: plotlyScale(colour.metric), cmin: colour.low, cmax: colour.high }),
    size: state.size ? diameters(numbersOf(state.size)) : nHeads > 400 ? 7 : 10,
    symbol: headNumbers.map((head) => (crossed(head) ? "circle-x" : "circle")),
    line: { width: 1, color: soft },
  };
  for (const [axis, name] of [["x", state.x], ["y", state.y]]) {
    const { title, unit, share } = all[name];
    const line = { [`${axis}0`]: even(name), [`${axis}1`]: even(name), line: { width: 1, dash: "dot" } };
    const across = axis === "x" ? { yref: "paper", y0: 0, y1: 1 } : { xref: "paper", x0: 0, x1: 1 };
    if (Number.isFinite(even(name))) (layout.shapes ??= []).push({ type: "line", ...line, ...across });
    const whose = name in metrics && chosenClass() >= 0 ? ` of ${visible(state.class)}` : "";
    Object.assign(layout[`${axis}axis`], { title: { text: plain(`${title}${whose} (${unit})`), standoff: 8 } });
    Object.assign(layout[`${axis}axis`], { tickformat: share ? ".0%" : "", fixedrange: true });
  }
  themed(layout);
  Object.assign(layout, { height: 440, margin: { l: 64, r: 30, t: 30, b: 48 } });
  lines = layout.shapes ?? [];
  return { data: [points], layout: { ...layout, ...marked() }, subject: "heads among heads" };
}

// A ring round the chosen head and its name. They are no trace: Plotly moves them without drawing 1,200 points again.
let lines = []; // what even attention gives
function marked() {
  const [x, y] = [state.x, state.y].map((name) => numberOf(name, state.head));
  if (!Number.isFinite(x) || !Number.isFinite(y)) return { shapes: lines, annotations: [] };
  const { accent, text } = paintBox();
  const size = { xsizemode: "pixel", ysizemode: "pixel", x0: -11, x1: 11, y0: -11, y1: 11 };
  const ring = { type: "circle", xanchor: x, yanchor: y, ...size, line: { width: 3, color: accent } };
  const name = { x, y, text: `<b>${headLabel(state.head)}</b>`, showarrow: false, yshift: 20, font: { size: 13, color: text } };
  return { shapes: [...lines, ring], annotations: [name] };
}

// Rank 1 is the largest.
function ranked(name) {
  const own = numberOf(name, state.head);
  const others = numbersOf(name).filter(Number.isFinite);
  const chanceLevel = Number.isFinite(even(name)) ? `; even attention would give ${worded(name, even(name))}` : "";
  const rank = `rank ${count(1 + others.filter((other) => other > own).length)} of ${count(others.length)}`;
  return `${called(name, state.head)} ${worded(name, own)}${Number.isFinite(own) ? ` (${rank}${chanceLevel})` : ""}`;
}

const headWords = () => `${headLabel(state.head)}: ${[...new Set([state.x, state.y])].map(ranked).join(", ")}.`;

// All that follows from which head is chosen.
function markHead() {
  if (byId("scatter").data) Plotly.relayout("scatter", marked());
  byId("scatter-words").textContent = headWords();
  for (const row of byId("scatter-table").querySelectorAll("[data-head]"))
    row.closest("tr").toggleAttribute("aria-current", Number(row.dataset.head) === state.head);
}

function drawLegend() {
  const parts = [];
  if (state.colour) {
    const { metric, low, high } = colouring(state.colour);
    const ramp = make("span", { className: "ramp", ariaHidden: "true" });
    ramp.style.background = `linear-gradient(to right, ${stops(metric).map((rgb) => `rgb(${rgb})`)})`;
    const ends = [low, high].map((end) => worded(state.colour, end));
    parts.push(make("span", { className: "scale" }, `${all[state.colour].title} ${ends[0]}`, ramp, ends[1]));
  }
  if (state.size) parts.push(`size: ${all[state.size].title}`);
  parts.push("crossed: hatched in the grid", "dotted: even attention", "rank 1: the largest", "a click chooses the head");
  byId("scatter-legend").replaceChildren(...parts.map((part) => make("span", { className: "key" }, part)));
  const meanings = [...new Set([state.x, state.y])].map((name) => `${all[name].title[0].toUpperCase()}${all[name].title.slice(1)}: ${all[name].meaning}`);
  const sample = found.heads ? [`Attention is scored over ${count(found.n_queries)} queries from the beginning of the corpus.`] : [];
  byId("scatter-sub").textContent = [...meanings, ...sample].join(" ");
}

// The next head along x.
function step(way) {
  const order = headNumbers.filter((head) => Number.isFinite(numberOf(state.x, head)));
  order.sort((a, b) => numberOf(state.x, a) - numberOf(state.x, b) || a - b);
  const head = order[order.indexOf(state.head) + way];
  if (head !== undefined) change({ head });
  say(headWords());
}

const columnsShown = () =>
  [...new Set([state.x, state.y, state.colour, state.size, state.by.replace(/^-/, ""), "previous_token", "same_token", "first_token", "induction", "entropy", "distance"])].filter((name) => name in all);

function sortButton(name) {
  const way = { [name]: "descending", [`-${name}`]: "ascending" }[state.by];
  const button = linkButton(`${all[name].title}${{ descending: " ↓", ascending: " ↑" }[way] ?? ""}`, () =>
    change({ by: state.by === name ? `-${name}` : name }),
  );
  button.dataset.by = name;
  const header = make("th", { scope: "col" }, button);
  header.setAttribute("aria-sort", way ?? "none");
  return header;
}

function sortedHeads() {
  const name = state.by.replace(/^-/, "");
  const sign = state.by === name ? -1 : 1;
  const sure = (head) => Number.isFinite(numberOf(name, head));
  return [...headNumbers].sort((a, b) => sure(b) - sure(a) || (sure(a) ? sign * (numberOf(name, a) - numberOf(name, b)) : 0));
}

function headTable() {
  const place = byId("scatter-table");
  const focus = place.contains(document.activeElement) && document.activeElement.dataset.by;
  if (focus) queueMicrotask(() => place.querySelector(`[data-by="${focus}"]`)?.focus()); // once the table is there again
  queueMicrotask(markHead);
  const columns = columnsShown();
  const rows = sortedHeads().map((head) => {
    const button = linkButton(headLabel(head), () => change({ head }));
    button.dataset.head = head;
    return [button, ...columns.map((name) => worded(name, numberOf(name, head)))];
  });
  return [["head", ...columns.map(sortButton)], rows];
}

const choice = (first, input, none) => ({ first, input, among: () => (none ? ["", ...names] : names) });
panel({
  name: "scatter",
  state: {
    x: choice(found.first, "scatter-x"),
    y: choice("log2_amplification", "scatter-y"),
    colour: choice("layer", "scatter-colour", true),
    size: choice("", "scatter-size", true),
    by: { first: found.first, among: () => [...names, ...names.map((name) => `-${name}`)] },
  },
  watch: ["x", "y", "colour", "size", "by", "scheme", "class", "metric", "palette", "theme"],
  total: () => nHeads,
  rows: () => headNumbers.map(fullRow),
  named: () => ({ metric: `${state.y}-by-${state.x}` }),
  draw() {
    drawLegend();
    markHead();
  },
  chart,
  table: headTable,
  click: ({ customdata }) => customdata && change({ head: customdata[0] }),
});
watch(["head"], afterPaint(markHead));
byId("scatter-lower").addEventListener("click", () => step(-1));
byId("scatter-higher").addEventListener("click", () => step(1));
