// The bars "as table": every metric of every class, and a button that chooses the class.

const shownMetrics = data.metrics.filter(({ name }) => !["log2_amplification", "share"].includes(name));

function drawClassTable() {
  const titles = shownMetrics.flatMap((metric) => [metric.title, ...(metric.null ? [`${metric.title}, q`] : [])]);
  fillTable(
    byId("classes-table"),
    ["class", "n", "documents", "A", "95% interval", "share", "without the bias", ...titles],
    sortedRows().map((row) => [
      make("button", {
        type: "button",
        className: "link",
        textContent: visible(row.token_class),
        onclick: () => change({ class: row.token_class }),
      }),
      count(row.n_tokens),
      count(row.n_documents),
      signed(row.log2_amplification),
      interval(row.ci_low, row.ci_high),
      percent(row.share),
      percent(row.share_unbiased),
      ...shownMetrics.flatMap((metric) => [
        withInterval(row, metric),
        ...(metric.null ? [chance(row[`${metric.null}_q`])] : []),
      ]),
    ]),
  );
}
byId("classes-table").addEventListener("toggle", () => byId("classes-table").open && drawClassTable());
