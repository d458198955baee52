// Which heads do something? The layer x head grid and its legend, and beside it the heads ranked by what it shows.

const grid = byId("grid");
const ranking = byId("ranking");
let focused = 0; // the cell in the tab order
let marked = 0; // the cell of the chosen head

const cells = headNumbers.map((head) => {
  const element = make("td", {}, make("b"), make("span"));
  element.setAttribute("role", "gridcell");
  mark(element, false);
  element.dataset.head = head;
  return element;
});

function buildGrid() {
  const heads = data.heads.map((head) => make("th", { scope: "col" }, make("i", { textContent: "H" }), String(head)));
  const rows = byLayer(cells).map((own, i) =>
    make("tr", {}, make("th", { scope: "row", textContent: `L${data.layers[i]}` }), ...own),
  );
  grid.replaceChildren(make("thead", {}, make("tr", {}, make("td"), ...heads)), make("tbody", {}, ...rows));
  for (const row of grid.querySelectorAll("tr")) row.setAttribute("role", "row");
  for (const header of grid.querySelectorAll("th"))
    header.setAttribute("role", header.scope === "col" ? "columnheader" : "rowheader");
  // a small model gets large cells
  grid.style.setProperty("--cell", `${Math.min(Math.max(460 / data.layers.length, 38), 76)}px`);
}

// What the grid shows of a head: the chosen class, or the class it changes most.
const shownClass = (head) => (chosenClass() >= 0 ? chosenClass() : strongestClass(head));

function strongestClass(head) {
  let best = { klass: -1 };
  classesOf().forEach((name, klass) => {
    if (few(klass) || name === data.sink || !Number.isFinite(value(head, klass))) return;
    const found = { klass, ...rankOf(head, klass) };
    if (best.klass < 0 || strongestFirst(found, best) < 0) best = found;
  });
  return best.klass;
}

// The class and the number that the grid shows of each head, by the number of the head.
const shownOf = () =>
  headNumbers.map((head) => {
    const klass = shownClass(head);
    return { head, klass, number: klass < 0 ? NaN : value(head, klass) };
  });

function drawGrid() {
  const metric = shownMetric();
  const paint = painter(metric, shownRange());
  const overview = chosenClass() < 0;
  const shown = shownOf();
  grid.classList.toggle("overview", overview);
  for (const { head, klass, number } of shown) {
    const element = cells[head];
    const thin = klass >= 0 && few(klass);
    const [name, text] = element.children;
    name.textContent = overview && klass >= 0 ? visible(classesOf()[klass]) : "";
    text.textContent = printed(number, metric);
    Object.assign(element.style, paint(thin ? NaN : number));
    element.dataset.sign = metric.signed ? signOf(number - metric.centre) : "·";
    element.className = klass >= 0 && indistinct(head, klass) ? "hatched" : "";
    if (thin) element.classList.add("few");
  }
  markHead();
  drawRanking(shown, metric, paint);
  drawWords(metric);
}

// A large model has more heads than one can look over.
function drawRanking(shown, metric, paint) {
  const ranked = shown
    .filter(({ number }) => Number.isFinite(number))
    .map((one) => ({ ...one, ...rankOf(one.head, one.klass) }))
    .sort(strongestFirst);
  byId("ranking-title").textContent =
    ranked.length > LISTED ? `Strongest ${LISTED} of ${count(nHeads)} heads` : "Heads, strongest first";
  byId("ranking-how").textContent =
    (metric.low in shownScheme().values ? "by the interval’s end nearest to no effect" : "by size: no interval") +
    (hasControl(metric) ? "; hatched last" : "");
  const items = ranked.slice(0, LISTED).map(({ head, klass, number }) => {
    const button = make(
      "button",
      { type: "button", className: indistinct(head, klass) ? "unsure" : "" },
      make("b", { textContent: headLabel(head) }),
      make("bdi", { textContent: visible(classesOf()[klass]) }),
      make("span", { className: "number", textContent: printed(number, metric) }),
    );
    button.dataset.head = head;
    button.style.setProperty("--mark", paint(number).backgroundColor);
    return make("li", {}, button);
  });
  ranking.replaceChildren(...items);
}

function spoken(head) {
  const klass = shownClass(head);
  const metric = shownMetric();
  if (klass < 0) return `${headLabel(head)}: no class with ${data.few} tokens or more`;
  const found = cell(head, klass);
  const parts = [`${headLabel(head)}, ${visible(found.token_class)}`];
  if (!found.n_tokens) return `${parts[0]}: n = 0`;
  if (state.metric !== "log2_amplification") parts.push(`${metric.title} ${withInterval(found, metric)}`);
  const q = found[metric.q];
  const against = Number.isFinite(q) ? ` (${chanceOf("q", q)} against ${metric.control})` : "";
  parts.push(`A = ${signed(found.log2_amplification)} ${interval(found.ci_low, found.ci_high)}`, `${sideOf(head, klass, found)}${against}`);
  parts.push(
    `share ${percent(found.share_unbiased)} → ${percent(found.share)}`,
    `n = ${count(found.n_tokens)} in ${plural(found.n_documents, "document")}`,
  );
  return parts.join(" · ");
}

// Whether a value is amplified or suppressed, or what keeps one from saying so.
function sideOf(head, klass, found) {
  const metric = shownMetric();
  if (indistinct(head, klass)) return "not beyond its control";
  const own = metric.low in found;
  const [low, high, centre] = own ? [metric.low, metric.high, metric.centre] : ["ci_low", "ci_high", 0];
  if (found[low] <= centre && found[high] >= centre) return own ? "interval holds no effect" : "interval of A holds 0";
  return found[state.metric] > metric.centre ? "amplified" : "suppressed";
}

function drawWords(metric) {
  const klass = chosenClass();
  const { n_tokens, n_documents } = shownScheme();
  const subject =
    klass < 0
      ? `Each head's strongest class (at least ${data.few} tokens, ${data.sink} left out) by ${metric.title}.`
      : `Class ${classWords(klass)}: n = ${count(n_tokens[klass])} in ${plural(n_documents[klass], "document")}.`;
  byId("heads-sub").textContent = `${subject} ${metric.meaning}`;
  legend(byId("grid-legend"), metric, shownRange(), metric.signed ? metric.unit : "", [
    ...(hasControl(metric) ? [note("hatched", hatchReason(metric))] : []),
    note("few", `grey: n < ${data.few}`),
    make("span", { className: "key", textContent: "same colours for every head and class of this scheme" }),
    ...(hasControl(metric) ? [] : [make("span", { className: "key", textContent: "nothing is hatched: this metric has no control here" })]),
  ]);
}

// The chosen head is outlined; one cell of the grid is in the tab order.
function markHead() {
  for (const head of [focused, marked, state.head]) mark(cells[head], head === state.head);
  focused = marked = state.head;
  byId("readout").textContent = spoken(state.head);
  for (const name of document.querySelectorAll(".head-name")) name.textContent = headLabel(state.head);
}

function mark(element, chosen) {
  element.tabIndex = chosen ? 0 : -1;
  element.setAttribute("aria-selected", chosen);
}

function moveTo(head) {
  cells[focused].tabIndex = -1;
  cells[(focused = head)].tabIndex = 0;
  cells[head].focus();
}

grid.addEventListener("keydown", (event) => {
  const column = focused % wide;
  const step = {
    ArrowLeft: column ? -1 : 0,
    ArrowRight: column < wide - 1 ? 1 : 0,
    ArrowUp: -wide,
    ArrowDown: wide,
    Home: -column,
    End: wide - 1 - column,
  }[event.key];
  if (event.key === "Enter" || event.key === " ") change({ head: focused });
  else if (step === undefined) return;
  else if (cells[focused + step]) moveTo(focused + step);
  event.preventDefault();
});
for (const list of [grid, ranking]) {
  const headAt = ({ target }) => Number(target.closest("[data-head]")?.dataset.head ?? NaN);
  for (const kind of ["pointerover", "focusin"]) {
    list.addEventListener(kind, (event) => {
      if (headAt(event) >= 0) byId("readout").textContent = spoken(headAt(event));
    });
  }
  list.addEventListener("pointerleave", () => (byId("readout").textContent = spoken(state.head)));
  list.addEventListener("click", (event) => headAt(event) >= 0 && change({ head: headAt(event) }));
}

// A cell has room for a name and a number, for a number, or only for a sign.
new ResizeObserver(([{ contentRect }]) => {
  const room = (contentRect.width - 34) / wide;
  grid.dataset.room = room >= 62 ? "wide" : room >= 37 ? "full" : "sign";
}).observe(byId("grid-box"));

// The grid as a Plotly picture: the Python figure with what the page shows in it.
function picture() {
  const { data: traces, layout } = look("grid");
  const [cellTrace, hatchTrace] = traces;
  const metric = shownMetric();
  const limit = shownRange();
  const shown = shownOf();
  const plane = (read) => byLayer(shown).map((heads) => heads.map(read));
  const words = ({ head }) => {
    const [name, number] = [...cells[head].children].map((part) => plain(part.textContent));
    if (grid.dataset.room === "sign") return cells[head].dataset.sign;
    return name ? `${name}<br>${number}` : number;
  };
  Object.assign(cellTrace, {
    z: plane(({ number }) => (Number.isNaN(number) ? null : number)),
    text: plane(words),
    colorscale: plotlyScale(metric),
    zmin: metric.signed ? metric.centre - limit : 0,
    zmax: metric.centre + limit,
    hovertext: null,
  });
  const covered = shown.filter(({ head, klass }) => klass >= 0 && indistinct(head, klass));
  Object.assign(hatchTrace, gridPlaces(covered.map(({ head }) => head)));
  const subject = chosenClass() < 0 ? "strongest class" : plain(state.class);
  const { text, panel: ground } = paintBox();
  Object.assign(layout, {
    title: { text: `${plain(data.model)} · ${subject} · ${metric.title} (${metric.unit})` },
    height: 150 + 40 * data.layers.length,
    font: { ...layout.font, color: text },
    paper_bgcolor: ground,
    plot_bgcolor: ground,
  });
  return { data: traces, layout };
}

buildGrid();
const SHOWN = ["scheme", "class", "metric"];
panel({
  name: "heads",
  box: "grid",
  soon: true,
  watch: [...SHOWN, "palette", "theme"],
  total: () => nHeads,
  rows: () =>
    shownOf()
      .filter(({ klass }) => klass >= 0)
      .map(({ head, klass }) => cell(head, klass)),
  draw: drawGrid,
  picture,
});
watch(["head"], (changed) => SHOWN.some((key) => changed.has(key)) || markHead());
