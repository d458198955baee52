// Which token looks at which? Attention of the chosen head from each query to each key, in the passages that the page has.

const kept = data.panels.pattern;
const table = byId("pattern");
const BEFORE = -1; // the key of all tokens before the passage together
const difference = { signed: true, centre: 0 };
const quantity = { signed: false, centre: 0 };
let cells = []; // by query, from the first key that is shown on
let built; // the passage that they are of
let current = { query: 0, key: 0 };

const passageAt = () => kept.passages.findIndex(({ number }) => number === state.pattern);
const passage = () => kept.passages[passageAt()];
const tokenOf = (key) => (key === BEFORE ? "before" : passage().strings[key]);
const named = (key) => (key === BEFORE ? "all tokens before the passage" : `“${visible(tokenOf(key))}”`);
const firstKey = () => (passage().before ? BEFORE : 0);
const keysOf = (query) => Array.from({ length: query + 1 - firstKey() }, (_, i) => i + firstKey());
const pairs = () => passage().strings.flatMap((_, query) => keysOf(query).map((key) => ({ query, key })));

// The page has roots of shares in small steps, row by row: query i has i + 2 keys, the first of which is BEFORE.
function share(column, query, key) {
  const [, passages, each] = kept.shape;
  const step = kept.values[column][(state.head * passages + passageAt()) * each + (query * (query + 3)) / 2 + key + 1];
  return step > kept.steps ? NaN : (step / kept.steps) ** 2;
}

function sharesOf({ query, key }) {
  const [attention, attention_unbiased] = ["attention", "attention_unbiased"].map((name) => share(name, query, key));
  return { attention, attention_unbiased, difference: attention - attention_unbiased };
}

function patternRows() {
  const { number, document } = passage();
  return pairs().map((pair) => {
    const shares = Object.entries(sharesOf(pair)).map(([name, value]) => [name, exact(value, 3)]);
    const tokens = { query_token: tokenOf(pair.query), key_token: pair.key === BEFORE ? "" : tokenOf(pair.key) };
    return { ...headColumns(state.head), passage: number, document, ...pair, ...tokens, ...Object.fromEntries(shares) };
  });
}

function build() {
  built = state.pattern;
  const { strings } = passage();
  const header = (key, scope) => {
    const token = make("bdi", { textContent: key === BEFORE ? "before" : visible(strings[key]) });
    const element = make("th", { scope, className: key === BEFORE ? "before" : "" }, token);
    element.setAttribute("role", scope === "col" ? "columnheader" : "rowheader");
    element.dataset.token = key;
    return element;
  };
  cells = strings.map((_, query) =>
    keysOf(query).map((key) => {
      const cell = make("td", { tabIndex: -1 });
      Object.assign(cell.dataset, { query, key });
      return cell;
    }),
  );
  const every = keysOf(strings.length - 1);
  const rows = cells.map((own, query) => {
    const later = Array.from({ length: every.length - own.length }, () => make("td", { className: "later" }));
    return make("tr", {}, header(query, "row"), ...own, ...later);
  });
  const top = make("tr", {}, make("td", { className: "corner", textContent: "query ↓  key →" }), ...every.map((key) => header(key, "col")));
  table.replaceChildren(make("thead", {}, top), make("tbody", {}, ...rows));
  for (const row of table.querySelectorAll("tr")) row.setAttribute("role", "row");
  for (const cell of table.querySelectorAll("td")) cell.setAttribute("role", "gridcell");
  current = { query: strings.length - 1, key: firstKey() };
}

const cellOf = ({ query, key }) => cells[query]?.[key - firstKey()];

const signs = () => state.patternShown === "difference";
const quality = () => (signs() ? difference : quantity);

// The largest share: with and without the bias are seen in the same colours. The first column, often a sink, is left out.
function limitOf(rows) {
  const columns = signs() ? ["difference"] : ["attention", "attention_unbiased"];
  const own = rows.filter(({ key }) => key > firstKey());
  return Math.max(...own.flatMap((row) => columns.map((name) => Math.abs(row[name]) || 0))) || 1;
}

function drawPattern(rows) {
  if (built !== state.pattern) build();
  const limit = limitOf(rows);
  const paint = painter(quality(), limit);
  for (const row of rows) {
    const cell = cellOf(row);
    const value = row[state.patternShown];
    const whole = signs() ? signed(100 * value, 0) : Number.isFinite(value) ? (100 * value).toFixed(0) : "–";
    cell.textContent = whole === "0" ? "" : whole;
    Object.assign(cell.style, paint(value));
  }
  const unit = signs() ? "points" : "of the query’s attention";
  legend(byId("pattern-legend"), quality(), signs() ? 100 * limit : limit, unit, [
    make("span", { className: "key", textContent: `numbers: ${signs() ? "percentage points" : "percent"}; empty: less than half of one` }),
    make("span", { className: "key", textContent: "colours are of this head and passage; the first column may go beyond them" }),
  ]);
  point(current);
  byId("pattern-words").textContent = words(rows);
}

// How much of the attention the bias moves, and where most.
function words(rows) {
  const sum = rows.reduce((total, { difference }) => total + Math.max(difference, 0), 0);
  const most = rows.reduce((best, pair) => (Math.abs(pair.difference) > Math.abs(best.difference) ? pair : best));
  if (!most.difference) return `In this passage the bias of ${headLabel(state.head)} moves no attention.`;
  return (
    `In this passage the bias of ${headLabel(state.head)} moves ${percent(sum / cells.length)} of a query’s attention ` +
    `(mean over ${plural(cells.length, "query", "queries")}); most from “${visible(tokenOf(most.query))}” to ` +
    `${named(most.key)}: ${signed(100 * most.difference, 1)} points.`
  );
}

function readout(pair) {
  const { attention, attention_unbiased, difference } = sharesOf(pair);
  return [
    `“${visible(tokenOf(pair.query))}” → ${named(pair.key)}`,
    `with the bias ${percent(attention)}, without ${percent(attention_unbiased)}`,
    `difference ${signed(100 * difference, 1)} points`,
  ].join(" · ");
}

function point(pair) {
  const before = cellOf(current);
  if (before) before.tabIndex = -1;
  current = pair;
  cellOf(pair).tabIndex = 0;
  byId("pattern-readout").textContent = readout(pair);
}

function markClass() {
  const codes = passage().classes[state.scheme];
  byId("pattern-class").textContent = chosenClass() < 0 ? "" : `Underlined: ${visible(state.class)}.`;
  for (const header of table.querySelectorAll("th"))
    header.classList.toggle("chosen", chosenClass() >= 0 && codes[header.dataset.token] === chosenClass());
}

table.addEventListener("keydown", (event) => {
  const { query, key } = current;
  const to = {
    ArrowLeft: { query, key: key - 1 },
    ArrowRight: { query, key: key + 1 },
    ArrowUp: { query: query - 1, key },
    ArrowDown: { query: query + 1, key },
    Home: { query, key: firstKey() },
    End: { query, key: query },
  }[event.key];
  if (!to) return;
  event.preventDefault();
  cellOf(to)?.focus();
});
for (const kind of ["focusin", "pointerover"]) {
  table.addEventListener(kind, ({ target }) => {
    const { query, key } = target.closest("td[data-query]")?.dataset ?? {};
    if (query) point({ query: Number(query), key: Number(key) });
  });
}

// The pattern as a Plotly picture: the Python figure with what the page shows in it.
function picture() {
  const { data: [heat], layout } = look("pattern");
  const { strings } = passage();
  const limit = limitOf(patternRows());
  const every = keysOf(strings.length - 1);
  const label = (key) => plain(tokenOf(key).slice(0, 14)) || "·";
  const value = (query, key) => known(key <= query ? sharesOf({ query, key })[state.patternShown] : NaN);
  Object.assign(heat, {
    z: strings.map((_, query) => every.map((key) => value(query, key))),
    colorscale: plotlyScale(quality()),
    zmin: signs() ? -limit : 0,
    zmax: limit,
  });
  const { text, panel: ground } = paintBox();
  Object.assign(layout.xaxis, { tickvals: every.map((_, i) => i), ticktext: every.map(label) });
  Object.assign(layout.yaxis, { tickvals: strings.map((_, i) => i), ticktext: strings.map((_, i) => label(i)), range: [strings.length - 0.5, -0.5] });
  const title = [data.model, headLabel(state.head), `passage ${state.pattern}`, kept.shown[state.patternShown]].map(plain);
  Object.assign(layout, {
    title: { text: title.join(" · ") },
    annotations: [],
    height: 190 + 22 * strings.length,
    font: { ...layout.font, color: text },
    paper_bgcolor: ground,
    plot_bgcolor: ground,
  });
  return { data: [heat], layout };
}

const sentences = [
  "A row is a token that looks back (query), a column a token that it looks at (key); a cell is the share of the row’s attention, with what stands before this head held fixed.",
];
if (kept.passages.some(({ before }) => before))
  sentences.push("Passages are cut from longer texts: “before” is what goes to all tokens before the passage together.");
sentences.push(kept.sink ? "What a row lacks to 100% goes to the model’s attention sink." : "A row sums to 100%.");
if (kept.passages.length < kept.total)
  sentences.push(`${kept.passages.length} of ${kept.total} kept passages ${kept.passages.length === 1 ? "is" : "are"} in this page.`);
sentences.push("Shares are rounded here, by at most 0.4 points; patterns.parquet has them in full.");
byId("pattern-sub").textContent = sentences.join(" ");

options(byId("pattern-shown"), Object.entries(kept.shown));
options(
  byId("pattern-passage"),
  kept.passages.map(({ number, strings }) => [number, `${number}: ${visible(strings.slice(0, 8).join("").trim())}…`]),
);
const numbersOf = kept.passages.map(({ number }) => number);
panel({
  name: "pattern",
  state: {
    pattern: { first: numbersOf[0], input: "pattern-passage", among: () => numbersOf },
    patternShown: { first: "attention", input: "pattern-shown", among: () => Object.keys(kept.shown) },
  },
  watch: ["head", "palette", "theme", "pattern", "patternShown"],
  rows: patternRows,
  named: () => ({ scheme: null, class: null, metric: state.patternShown, passage: `passage-${state.pattern}` }),
  draw: drawPattern,
  picture,
  table: (rows) => [
    ["query", "key", "with the bias", "without the bias", "difference, points"],
    rows.map((row) => [
      visible(row.query_token),
      row.key === BEFORE ? "(before)" : visible(row.key_token),
      percent(row.attention),
      percent(row.attention_unbiased),
      signed(100 * row.difference, 1),
    ]),
  ],
});
watch(["scheme", "class", "pattern"], afterPaint(markClass));
