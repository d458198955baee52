// What is b_Q used for? The change of the loss when bias scores know less, for all predicted tokens or those of a class.

const used = data.panels.uses;
const ALL = "overall";

function usesRows() {
  const scheme = state.predicted === ALL ? ALL : state.scheme;
  const { label, predicted_scheme, predicted_class, n_tokens, draws: _, vector: __, ...numbers } = used;
  return label
    .map((keeps, at) => ({
      keeps,
      predicted_scheme: predicted_scheme[at],
      predicted_class: predicted_class[at],
      n_tokens: n_tokens[at],
      ...numbersAt(numbers, at),
    }))
    .filter((row) => row.predicted_scheme === scheme && row.predicted_class === state.predicted);
}

function usesChart(rows) {
  const named = rows.map((row) => ({ ...row, token_class: row.keeps }));
  const { data: [trace] } = look("uses"); // prettier-ignore
  const columns = { name: "difference", low: "ci_low", high: "ci_high", title: "change of loss", unit: "nats" };
  const layout = classLayout("uses", named, "change of loss (nats)");
  layout.yaxis.ticktext = rows.map(({ keeps }) => plain(keeps)); // n is the same in every row, and stands above
  layout.margin.l = Math.ceil(Math.max(0, ...rows.map(({ keeps }) => textWidth(keeps)))) + 14;
  return {
    data: [dots(trace, named, columns, paintBox().accent, 0)],
    layout: Object.assign(layout, { showlegend: false }),
    subject: `${state.predicted} of the predicted token`,
  };
}

function usesWords(rows) {
  const [removed, ...others] = rows;
  if (!removed) return "These tokens were not predicted.";
  const start = `Without ${used.vector} the loss changes by ${signed(removed.difference, 3)} ${interval(removed.ci_low, removed.ci_high, 3)} nats (n = ${count(removed.n_tokens)})`;
  const back = others.filter((row) => row.keeps.startsWith("only") && Number.isFinite(row.restored)).map(restoredText);
  if (!back.length) return `${start}; which share of it is given back cannot be said, since its interval holds 0 or is missing.`;
  return `${start}. A bias gives back of that which knows ${back.join(", ")}.`;
}

const restoredText = (row) =>
  `${row.keeps} ${percent(row.restored)} [${percent(row.restored_ci_low)}, ${percent(row.restored_ci_high)}]`;

function drawPredicted() {
  const names = [[ALL, "all"], ...classesOf().map((name) => [name, visible(name)])];
  options(byId("predicted"), names);
  byId("predicted").value = state.predicted;
}

panel({
  name: "uses",
  state: { predicted: { first: ALL, input: "predicted", among: () => [ALL, ...classesOf()], ofScheme: true } },
  watch: ["scheme", "theme", "predicted"],
  rows: usesRows,
  draw(rows) {
    drawPredicted();
    byId("uses-words").textContent = usesWords(rows);
  },
  chart: usesChart,
  table: (rows) => [
    ["bias scores", "n", "change of loss, nats", "95% interval", "given back", "95% interval"],
    rows.map((row) => [
      row.keeps,
      count(row.n_tokens),
      signed(row.difference, 3),
      interval(row.ci_low, row.ci_high, 3),
      percent(row.restored),
      Number.isFinite(row.restored) ? `[${percent(row.restored_ci_low)}, ${percent(row.restored_ci_high)}]` : "–",
    ]),
  ],
});
