// Panel "Which heads do something?": the layer x head grid, its legend and the ranked list.

const grid = byId("grid"), ranking = byId("ranking"), LISTED = 50;
let cells = [], focused = 0;

function buildGrid() {
  const top = make("tr", {}, make("td"), ...data.heads.map((head) => make("th", { scope: "col" }, make("i", { textContent: "H" }), String(head))));
  const rows = data.layers.map((layer, i) => {
    const row = data.heads.map((_, j) => gridCell(i * data.heads.length + j));
    cells.push(...row);
    return make("tr", {}, make("th", { scope: "row", textContent: `L${layer}` }), ...row);
  });
  grid.replaceChildren(make("thead", {}, top), make("tbody", {}, ...rows));
  for (const row of grid.querySelectorAll("tr")) row.setAttribute("role", "row");
  for (const header of grid.querySelectorAll("th")) header.setAttribute("role", header.scope === "col" ? "columnheader" : "rowheader");
}

// A small model gets large cells.
grid.style.setProperty("--cell", `${Math.min(Math.max(460 / data.layers.length, 38), 76)}px`);

function gridCell(head) {
  const element = make("td", { tabIndex: -1 }, make("b"), make("span"));
  element.setAttribute("role", "gridcell");
  element.dataset.head = head;
  return element;
}

// What the grid shows of a head: the chosen class, or the class it changes most.
function shownClass(head) {
  return chosenClass() >= 0 ? chosenClass() : strongestClass(head);
}

function strongestClass(head) {
  const { classes } = schemes[state.scheme], { centre } = metrics[state.metric];
  let best = -1, most = -1;
  for (let klass = 0; klass < classes.length; klass++) {
    if (few(state.scheme, klass) || classes[klass] === data.sink) continue;
    const distance = Math.abs(value(state.scheme, head, klass, state.metric) - centre);
    const score = distance + (indistinct(state.scheme, head, klass) ? 0 : 1e6); // what is sure goes first
    if (Number.isFinite(distance) && score > most) [best, most] = [klass, score];
  }
  return best;
}

function drawGrid() {
  const metric = metrics[state.metric], paint = painter(metric, schemes[state.scheme].ranges[state.metric]);
  const overview = chosenClass() < 0;
  grid.classList.toggle("overview", overview);
  cells.forEach((element, head) => {
    const klass = shownClass(head), number = klass < 0 ? NaN : value(state.scheme, head, klass, state.metric);
    const thin = klass >= 0 && few(state.scheme, klass), { fill, ink } = paint(thin ? NaN : number), [name, text] = element.children;
    name.textContent = overview && klass >= 0 ? visible(schemes[state.scheme].classes[klass]) : "";
    text.textContent = printed(number, metric);
    element.style.backgroundColor = fill;
    element.style.color = ink;
    element.dataset.sign = !metric.signed || !Number.isFinite(number) ? "·" : number > metric.centre ? "+" : "−";
    element.className = klass < 0 || indistinct(state.scheme, head, klass) ? "hatched" : "";
    if (thin) element.classList.add("few");
  });
  markHead();
  drawRanking();
  drawGridWords(metric);
}

function spoken(head) {
  const klass = shownClass(head), metric = metrics[state.metric];
  if (klass < 0) return `${headLabel(head)}: no class with ${data.few} tokens or more`;
  const found = cell(state.scheme, head, klass), parts = [`${headLabel(head)}, ${visible(found.token_class)}`];
  if (!found.n_tokens) return `${parts[0]}: n = 0`;
  if (state.metric !== "log2_amplification") parts.push(`${metric.title} ${printed(found[state.metric], metric)}`);
  const side = indistinct(state.scheme, head, klass) ? "not distinguishable from 0" : found.log2_amplification > 0 ? "amplified" : "suppressed";
  parts.push(`A = ${signed(found.log2_amplification)} ${interval(found.ci_low, found.ci_high)}, ${side}`);
  parts.push(`share ${percent(found.share_unbiased)} → ${percent(found.share)}`, `n = ${count(found.n_tokens)} in ${plural(found.n_documents, "document")}`);
  return parts.join(" · ");
}

function drawGridWords(metric) {
  const klass = chosenClass(), { n_tokens, n_documents } = schemes[state.scheme];
  byId("heads-sub").replaceChildren(
    klass < 0
      ? `Each head's strongest class (at least ${data.few} tokens, ${data.sink} left out), coloured by its ${metric.title}. `
      : `Class ${visible(state.class)}: n = ${count(n_tokens[klass])} in ${plural(n_documents[klass], "document")}. `,
    make("span", { textContent: metric.meaning }),
  );
  const unit = metric.signed ? metric.unit : "";
  legend(byId("grid-legend"), metric, schemes[state.scheme].ranges[state.metric], unit, [
    note("hatched", "hatched: 95% interval of A covers 0"), note("few", `grey: n < ${data.few}`),
    make("span", { className: "key", textContent: "same colours for every head and class of this scheme" }),
  ]);
  offer("heads", nHeads, () => cells.map((_, head) => (shownClass(head) < 0 ? null : cell(state.scheme, head, shownClass(head)))).filter(Boolean));
}

function drawRanking() {
  const metric = metrics[state.metric];
  const ranked = cells.map((_, head) => ({ head, klass: shownClass(head) })).filter(({ klass }) => klass >= 0)
    .map((item) => ({ ...item, number: value(state.scheme, item.head, item.klass, state.metric) }))
    .filter(({ number }) => Number.isFinite(number))
    .sort((a, b) => Math.abs(b.number - metric.centre) - Math.abs(a.number - metric.centre));
  byId("ranking-title").textContent = ranked.length > LISTED ? `Strongest ${LISTED} of ${count(nHeads)} heads` : "Heads, strongest first";
  const paint = painter(metric, schemes[state.scheme].ranges[state.metric]);
  ranking.replaceChildren(...ranked.slice(0, LISTED).map((item) => rankedItem(item, metric, paint)));
}

function rankedItem({ head, klass, number }, metric, paint) {
  const sure = !indistinct(state.scheme, head, klass);
  const button = make("button", { type: "button", className: sure ? "" : "unsure" },
    make("b", { textContent: headLabel(head) }),
    make("bdi", { textContent: visible(schemes[state.scheme].classes[klass]) }),
    make("span", { className: "number", textContent: printed(number, metric) }));
  button.dataset.head = head;
  button.style.setProperty("--mark", paint(number).fill);
  return make("li", {}, button);
}

// The chosen head is outlined; one cell of the grid is in the tab order.
function markHead() {
  focused = state.head;
  cells.forEach((element, head) => {
    element.tabIndex = head === focused ? 0 : -1;
    element.setAttribute("aria-selected", head === state.head);
  });
  byId("readout").textContent = spoken(state.head);
  for (const name of document.querySelectorAll(".head-name")) name.textContent = headLabel(state.head);
}

function moveTo(head) {
  cells[focused].tabIndex = -1;
  cells[(focused = head)].tabIndex = 0;
  cells[head].focus();
}

grid.addEventListener("keydown", (event) => {
  const wide = data.heads.length, column = focused % wide;
  const step = { ArrowLeft: column ? -1 : 0, ArrowRight: column < wide - 1 ? 1 : 0, ArrowUp: -wide, ArrowDown: wide,
    Home: -column, End: wide - 1 - column }[event.key];
  if (event.key === "Enter" || event.key === " ") change({ head: focused });
  else if (step === undefined) return;
  else if (cells[focused + step]) moveTo(focused + step);
  event.preventDefault();
});
for (const list of [grid, ranking]) {
  for (const kind of ["pointerover", "focusin"]) {
    list.addEventListener(kind, ({ target }) => {
      const over = target.closest("[data-head]");
      if (over) byId("readout").textContent = spoken(Number(over.dataset.head));
    });
  }
  list.addEventListener("pointerleave", () => (byId("readout").textContent = spoken(state.head)));
  list.addEventListener("click", ({ target }) => {
    const chosen = target.closest("[data-head]");
    if (chosen) change({ head: Number(chosen.dataset.head) });
  });
}

// A cell has room for a name and a number, for a number, or only for a sign.
new ResizeObserver(([{ contentRect }]) => {
  const room = (contentRect.width - 34) / data.heads.length;
  grid.dataset.room = room >= 62 ? "wide" : room >= 37 ? "full" : "sign";
}).observe(byId("grid-box"));

charts.grid = () => {
  const { data: [cellTrace, hatchTrace], layout } = structuredClone(data.figures.grid), wide = data.heads.length;
  const metric = metrics[state.metric], limit = schemes[state.scheme].ranges[state.metric];
  const all = cells.map((element, head) => ({ head, klass: shownClass(head), text: [...element.children].map((part) => plain(part.textContent)) }));
  const plane = (read) => data.layers.map((_, i) => all.slice(i * wide, (i + 1) * wide).map(read));
  Object.assign(cellTrace, {
    z: plane(({ head, klass }) => (klass < 0 ? null : value(state.scheme, head, klass, state.metric))),
    text: plane(({ text: [name, number], head }) => (grid.dataset.room === "sign" ? cells[head].dataset.sign : name ? `${name}<br>${number}` : number)),
    colorscale: stops(metric).map((rgb, i, list) => [i / (list.length - 1), `rgb(${rgb})`]),
    zmin: metric.signed ? metric.centre - limit : 0, zmax: metric.centre + limit, hovertext: null,
  });
  const covered = all.filter(({ head, klass }) => klass < 0 || indistinct(state.scheme, head, klass));
  Object.assign(hatchTrace, { x: covered.map(({ head }) => head % wide), y: covered.map(({ head }) => Math.floor(head / wide)) });
  const subject = chosenClass() < 0 ? "strongest class" : plain(state.class), { text, background } = printColours();
  Object.assign(layout, { title: { text: `${plain(data.model)} · ${subject} · ${metric.title} (${metric.unit})` },
    height: 150 + 40 * data.layers.length, font: { ...layout.font, color: text }, paper_bgcolor: background, plot_bgcolor: background });
  return { data: [cellTrace, hatchTrace], layout };
};

watch(["scheme", "class", "metric", "palette", "theme"], drawGrid);
watch(["head"], (changed) => ["scheme", "class", "metric"].some((key) => changed.has(key)) || markHead());
