// What does the bias score vary with? Eta squared of position, token type and class in every head, the chosen one marked.

const { kinds, controls, schemes: explained } = data.panels.explained;

function explainedRows() {
  const found = explained[state.scheme];
  const row = (head) => ({ ...headColumns(head), scheme: state.scheme, ...columnsAt(found, head) });
  return found ? headNumbers.map(row) : [];
}

function explainedChart(rows) {
  if (!rows.length) return null;
  const { data: traces, layout } = look("explained");
  const { soft, accent, text } = paintBox();
  const apart = (head) => (((head * 0.618034) % 1) - 0.5) * 0.5;
  const fill = (trace, color, heads, column, moved = () => 0) => {
    const points = heads.flatMap((head) => Object.keys(kinds).map((kind, y) => ({ head, kind, y: y + moved(head) })));
    trace.x = points.map(({ head, kind }) => known(rows[head][column(kind)]));
    trace.y = points.map(({ y }) => y);
    trace.customdata = points.map(({ head, kind }, i) => [head, `${headLabel(head)}, ${kinds[kind]}: ${percent(trace.x[i])}`]);
    trace.hovertemplate = "%{customdata[1]}<extra></extra>";
    trace.marker.color = color;
  };
  fill(traces[0], soft, headNumbers, (kind) => kind, apart);
  fill(traces[1], accent, [state.head], (kind) => kind);
  fill(traces[2], text, [state.head], (kind) => controls[kind]);
  traces[1].name = headLabel(state.head);
  themed(layout);
  for (const axis of [layout.xaxis, layout.yaxis]) axis.fixedrange = true;
  const widest = Math.max(...Object.values(kinds).map(textWidth));
  Object.assign(layout, { height: 320, margin: { l: Math.ceil(widest) + 14, r: 12, t: 36, b: 44 } });
  return { data: traces, layout, subject: "what explains the bias score" };
}

function explainedWords(rows) {
  if (!rows.length) return "This scheme was not measured.";
  const own = rows[state.head];
  const { medians } = explained[state.scheme];
  const three = (row) =>
    `position explains ${percent(row.eta2_position)}, token type ${percent(row.eta2_type)}, class ${percent(row.eta2_class)}`;
  if (!Number.isFinite(own.eta2_class)) return `${headLabel(state.head)} has no bias. In the median head ${three(medians)}.`;
  return (
    `In ${headLabel(state.head)} ${three(own)} (classes along directions of equal spread: ` +
    `${percent(own.eta2_class_control)}, ${chanceOf("p", own.eta2_class_p)}); its keys spread ` +
    `${own.key_spread.toFixed(1)} times as far as along random directions. In the median head ${three(medians)}.`
  );
}

panel({
  name: "explained",
  watch: ["head", "scheme", "theme"],
  rows: explainedRows,
  draw(rows) {
    byId("explained-words").textContent = explainedWords(rows);
  },
  chart: explainedChart,
  table: (rows) => [
    ["head", "key spread", ...Object.values(kinds), "class by chance", "class, p", "frequent types by chance", "p"],
    rows.map((row, head) => [
      linkButton(headLabel(head), () => change({ head })),
      Number.isFinite(row.key_spread) ? row.key_spread.toFixed(2) : "–",
      ...Object.keys(kinds).map((kind) => percent(row[kind])),
      percent(row.eta2_class_control),
      chance(row.eta2_class_p),
      percent(row.eta2_frequent_type_control),
      chance(row.eta2_frequent_type_p),
    ]),
  ],
  click: ({ customdata: [head] }) => change({ head }),
});
