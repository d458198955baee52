// Panel "Which heads do something?": the layer x head grid and its legend.

const grid = byId("grid");
let cells = [];
let focused = 0; // the cell in the tab order
let marked = 0; // the cell of the chosen head

function buildGrid() {
  const top = make(
    "tr",
    {},
    make("td"),
    ...data.heads.map((head) => make("th", { scope: "col" }, make("i", { textContent: "H" }), String(head))),
  );
  const rows = data.layers.map((layer, i) => {
    const row = data.heads.map((_, j) => gridCell(i * data.heads.length + j));
    cells.push(...row);
    return make("tr", {}, make("th", { scope: "row", textContent: `L${layer}` }), ...row);
  });
  grid.replaceChildren(make("thead", {}, top), make("tbody", {}, ...rows));
  for (const row of grid.querySelectorAll("tr")) row.setAttribute("role", "row");
  for (const header of grid.querySelectorAll("th"))
    header.setAttribute("role", header.scope === "col" ? "columnheader" : "rowheader");
}

// A small model gets large cells.
grid.style.setProperty("--cell", `${Math.min(Math.max(460 / data.layers.length, 38), 76)}px`);

function gridCell(head) {
  const element = make("td", {}, make("b"), make("span"));
  element.setAttribute("role", "gridcell");
  mark(element, false);
  element.dataset.head = head;
  return element;
}

// What the grid shows of a head: the chosen class, or the class it changes most.
function shownClass(head) {
  return chosenClass() >= 0 ? chosenClass() : strongestClass(head);
}

function strongestClass(head) {
  const { classes } = schemes[state.scheme];
  const { centre } = metrics[state.metric];
  let best = -1;
  let most = -1;
  for (let klass = 0; klass < classes.length; klass++) {
    if (few(state.scheme, klass) || classes[klass] === data.sink) continue;
    const distance = Math.abs(value(state.scheme, head, klass, state.metric) - centre);
    const score = distance + (indistinct(state.scheme, head, klass) ? 0 : 1e6); // what is sure goes first
    if (Number.isFinite(distance) && score > most) [best, most] = [klass, score];
  }
  return best;
}

function drawGrid() {
  const metric = metrics[state.metric];
  const paint = painter(metric, schemes[state.scheme].ranges[state.metric]);
  const overview = chosenClass() < 0;
  grid.classList.toggle("overview", overview);
  cells.forEach((element, head) => {
    const klass = shownClass(head);
    const number = klass < 0 ? NaN : value(state.scheme, head, klass, state.metric);
    const thin = klass >= 0 && few(state.scheme, klass);
    const { fill, ink } = paint(thin ? NaN : number);
    const [name, text] = element.children;
    name.textContent = overview && klass >= 0 ? visible(schemes[state.scheme].classes[klass]) : "";
    text.textContent = printed(number, metric);
    element.style.backgroundColor = fill;
    element.style.color = ink;
    element.dataset.sign =
      !metric.signed || !Number.isFinite(number) ? "·" : number > metric.centre ? "+" : "−";
    element.className = klass < 0 || indistinct(state.scheme, head, klass) ? "hatched" : "";
    if (thin) element.classList.add("few");
  });
  markHead();
  drawRanking();
  drawGridWords(metric);
}

function spoken(head) {
  const klass = shownClass(head);
  const metric = metrics[state.metric];
  if (klass < 0) return `${headLabel(head)}: no class with ${data.few} tokens or more`;
  const found = cell(state.scheme, head, klass);
  const parts = [`${headLabel(head)}, ${visible(found.token_class)}`];
  if (!found.n_tokens) return `${parts[0]}: n = 0`;
  if (state.metric !== "log2_amplification") parts.push(`${metric.title} ${withInterval(found, metric)}`);
  const q = found[`${metric.null}_q`];
  const against = Number.isFinite(q) ? ` (q = ${chance(q)} against random directions)` : "";
  const side = indistinct(state.scheme, head, klass)
    ? "cannot be told from no effect"
    : found[state.metric] > metric.centre
      ? "amplified"
      : "suppressed";
  parts.push(`A = ${signed(found.log2_amplification)} ${interval(found.ci_low, found.ci_high)}`, `${side}${against}`);
  parts.push(
    `share ${percent(found.share_unbiased)} → ${percent(found.share)}`,
    `n = ${count(found.n_tokens)} in ${plural(found.n_documents, "document")}`,
  );
  return parts.join(" · ");
}

function drawGridWords(metric) {
  const klass = chosenClass();
  const { n_tokens, n_documents } = schemes[state.scheme];
  const subject =
    klass < 0
      ? `Each head's strongest class (at least ${data.few} tokens, ${data.sink} left out) by ${metric.title}.`
      : `Class ${visible(state.class)}: n = ${count(n_tokens[klass])} in ${plural(n_documents[klass], "document")}.`;
  byId("heads-sub").textContent = `${subject} ${metric.meaning}`;
  const unit = metric.signed ? metric.unit : "";
  legend(byId("grid-legend"), metric, schemes[state.scheme].ranges[state.metric], unit, [
    note("hatched", `hatched: ${hatchReason(metric)}`),
    note("few", `grey: n < ${data.few}`),
    make("span", { className: "key", textContent: "same colours for every head and class of this scheme" }),
  ]);
  offer("heads", nHeads, () =>
    cells
      .map((_, head) => (shownClass(head) < 0 ? null : cell(state.scheme, head, shownClass(head))))
      .filter(Boolean),
  );
}

function hatchReason(metric) {
  const { values } = schemes[state.scheme];
  const whose = metric.low in values ? "95% interval covers no effect" : "95% interval of A covers 0";
  return `${metric.null}_null_sd` in values ? `${whose}, or within 95% of random directions` : whose;
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
  const wide = data.heads.length;
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

watch(["scheme", "class", "metric", "palette", "theme"], drawGrid);
watch(["head"], (changed) => ["scheme", "class", "metric"].some((key) => changed.has(key)) || markHead());
