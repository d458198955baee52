// The other half of "Compare": one statistic of every class over all heads, which needs no pairing of heads.

function differenceRows() {
  const { classes } = compared;
  return classes.scheme
    .map((scheme, at) => ({
      scheme,
      token_class: classes.token_class[at],
      n_tokens: classes.n_tokens[at],
      statistic: classes.statistic[at],
      ...Object.fromEntries(
        ["value_a", "value_b", "difference", "ci_low", "ci_high"].map((name) => [name, exact(classes[name][at], 7)]),
      ),
      interval_over: classes.interval_over[at],
    }))
    .filter((row) => row.scheme === state.scheme && row.statistic === state.statistic)
    .sort(byValue("difference"));
}

function differenceTraces(rows) {
  const [trace] = structuredClone(data.figures.differences.data);
  const look = { name: "difference", low: "ci_low", high: "ci_high", title: "B − A", unit: "" };
  return [dots(trace, rows, look, paintBox().accent, 0)];
}

function drawDifferences() {
  const rows = differenceRows();
  drawChart(byId("differences"), differenceTraces(rows), dotLayout("differences", rows, "B − A"));
  offer("differences", rows.length, differenceRows);
  byId("differences-words").textContent = rows.length
    ? `Interval over ${[...new Set(rows.map((row) => row.interval_over))].join("; ")}.`
    : "This scheme is not in both results.";
  fillTable(
    byId("differences-table"),
    ["class", "n", "A", "B", "B − A", "95% interval"],
    rows.map((row) => [
      visible(row.token_class),
      count(row.n_tokens),
      signed(row.value_a, 3),
      signed(row.value_b, 3),
      signed(row.difference, 3),
      interval(row.ci_low, row.ci_high, 3),
    ]),
  );
}

charts.differences = () => {
  const rows = differenceRows();
  return framed(differenceTraces(rows), dotLayout("differences", rows, "B − A"), state.statistic);
};
