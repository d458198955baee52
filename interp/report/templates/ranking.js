// Beside the grid: the heads ranked by what the grid shows, because a large model has more than one can look over.

const ranking = byId("ranking");
const LISTED = 50;

function drawRanking() {
  const metric = metrics[state.metric];
  const ranked = cells
    .map((_, head) => ({ head, klass: shownClass(head) }))
    .filter(({ klass }) => klass >= 0)
    .map((item) => ({ ...item, number: value(state.scheme, item.head, item.klass, state.metric) }))
    .filter(({ number }) => Number.isFinite(number))
    .sort((a, b) => Math.abs(b.number - metric.centre) - Math.abs(a.number - metric.centre));
  byId("ranking-title").textContent =
    ranked.length > LISTED ? `Strongest ${LISTED} of ${count(nHeads)} heads` : "Heads, strongest first";
  const paint = painter(metric, schemes[state.scheme].ranges[state.metric]);
  ranking.replaceChildren(...ranked.slice(0, LISTED).map((item) => rankedItem(item, metric, paint)));
}

function rankedItem({ head, klass, number }, metric, paint) {
  const sure = !indistinct(state.scheme, head, klass);
  const button = make(
    "button",
    { type: "button", className: sure ? "" : "unsure" },
    make("b", { textContent: headLabel(head) }),
    make("bdi", { textContent: visible(schemes[state.scheme].classes[klass]) }),
    make("span", { className: "number", textContent: printed(number, metric) }),
  );
  button.dataset.head = head;
  button.style.setProperty("--mark", paint(number).fill);
  return make("li", {}, button);
}
