// Is it position, not class? The mean bias score along the context, and contrasts between tokens at the same positions.

const steps = data.panels.position;
remember({ firstToken: { first: true, input: "first-token" } }); // of both charts

function profileRows() {
  const rows = Array.from(steps.first, (pos, i) => ({
    ...headColumns(state.head),
    pos,
    last_pos: steps.last[i],
    n_tokens: steps.n_tokens[i],
    ...columnsAt(steps, state.head, i),
  }));
  return rows.filter((row) => state.firstToken || row.pos > 0);
}

const spanOf = (row) => (row.pos === row.last_pos ? `${row.pos}` : `${row.pos}–${row.last_pos}`);

function profileChart(rows) {
  const { data: traces, layout } = look("profile");
  const [band, line] = traces;
  const { band: shade, accent } = paintBox();
  const known = rows.filter((row) => Number.isFinite(row.ci_low) && Number.isFinite(row.ci_high));
  const back = [...known].reverse();
  const middle = (row) => (row.pos + row.last_pos) / 2;
  Object.assign(band, {
    x: [...known, ...back].map(middle),
    y: [...known.map((row) => row.ci_high), ...back.map((row) => row.ci_low)],
    fillcolor: shade,
  });
  Object.assign(line, {
    x: rows.map(middle),
    y: rows.map((row) => row.bias_score_mean),
    customdata: rows.map((row) => [`position ${spanOf(row)}: ${scoreOf(row)}<br>n = ${count(row.n_tokens)}`]),
    hovertemplate: "%{customdata[0]}<extra></extra>",
  });
  line.line.color = accent;
  themed(layout);
  for (const axis of [layout.xaxis, layout.yaxis]) axis.fixedrange = true;
  Object.assign(layout, { height: 300, margin: { l: 54, r: 12, t: 8, b: 44 } });
  const chart = { data: traces, layout, subject: "positional profile" };
  const ends = (row) => [row.bias_score_mean, row.ci_low, row.ci_high];
  return bound(chart, rows, ends, { axis: "y", place: middle, enough: (row) => isEnough(row) || row.pos === 0 });
}

const scoreOf = (row) => `${signed(row.bias_score_mean)} ${interval(row.ci_low, row.ci_high)} nats`;

function profileWords(rows) {
  if (!rows.length) return "";
  const sure = rows.some(isEnough) ? rows.filter(isEnough) : rows;
  const best = sure.reduce((most, row) => (row.bias_score_mean > most.bias_score_mean ? row : most));
  const least = sure.reduce((most, row) => (row.bias_score_mean < most.bias_score_mean ? row : most));
  const [high, low] = [best, least].map((row) => `${spanOf(row)} (${signed(row.bias_score_mean)} nats)`);
  return `Highest at position ${high}, lowest at ${low}.`;
}

if (data.figures.profile)
  panel({
    name: "profile",
    watch: ["head", "theme", "firstToken"],
    rows: profileRows,
    named: () => ({ class: OVERVIEW, metric: "bias_score_mean" }),
    draw(rows) {
      byId("profile-words").textContent = profileWords(rows);
    },
    chart: profileChart,
    table: (rows) => [
      ["position", "n", "mean bias score", "95% interval"],
      rows.map((row) => [
        spanOf(row),
        count(row.n_tokens),
        signed(row.bias_score_mean),
        interval(row.ci_low, row.ci_high),
      ]),
    ],
  });

const CONTRAST = "bias_score_contrast";
const removable = ["contrast_position", "contrast_frequency"].filter((name) => metrics[name]);
const shown = [CONTRAST, ...removable];
const removedName = (name) => metrics[name].title.replace("contrast, ", "");

const adjustedHow = () => (state.removed ? `with ${removedName(state.removed)}` : "as measured");

function adjustedRows() {
  const columns = shown.flatMap((name) => [name, metrics[name].low, metrics[name].high]);
  return classesOf()
    .map((_, klass) => {
      const row = cell(state.head, klass);
      const kept = ["layer", "head", "scheme", "token_class", "n_tokens", ...columns];
      return Object.fromEntries(kept.map((name) => [name, row[name]]));
    })
    .filter((row) => state.firstToken || row.token_class !== data.sink)
    .sort(byValue(CONTRAST));
}

function adjustedChart(rows) {
  const [before, after] = look("adjusted").data;
  const { soft, accent } = paintBox();
  const traces = [dots(before, rows, metrics[CONTRAST], soft, 0.16)];
  if (state.removed) {
    const named = { ...after, name: removedName(state.removed) };
    traces.push(dots(named, rows, metrics[state.removed], accent, -0.16));
  }
  const layout = classLayout("adjusted", rows, "bias score contrast (nats)");
  const drawn = [CONTRAST, state.removed].filter(Boolean).map((name) => metrics[name]);
  return bound({ data: traces, layout, subject: `contrasts ${adjustedHow()}` }, rows, endsOf(...drawn), { include: [0] });
}

// How much of the contrasts is left, in one sentence.
function adjustedWords(rows) {
  if (!state.removed) return "Tick a box to see what is left between tokens at the same positions.";
  const both = rows.filter(
    (row) => row.n_tokens >= data.few && Number.isFinite(row[state.removed]) && Number.isFinite(row[CONTRAST]),
  );
  if (!both.length) return "No class has tokens at the same positions as another.";
  const size = (name) => Math.sqrt(both.reduce((sum, row) => sum + row[name] ** 2, 0) / both.length);
  const share = percent(size(state.removed) / size(CONTRAST));
  const over = plural(both.length, "class", "classes");
  return `With ${removedName(state.removed)}, ${share} of the contrasts' size is left (root mean square over ${over}).`;
}

if (data.figures.adjusted) {
  panel({
    name: "adjusted",
    state: { removed: { first: "", among: () => ["", ...removable] } },
    watch: ["head", "scheme", "theme", "removed", "firstToken"],
    rows: adjustedRows,
    named: () => ({ class: OVERVIEW, metric: state.removed || CONTRAST }),
    draw(rows) {
      byId("adjusted-how").textContent = adjustedHow();
      byId("adjusted-words").textContent = adjustedWords(rows);
    },
    chart: adjustedChart,
    table: (rows) => [
      ["class", "n", ...shown.flatMap((name) => [metrics[name].title, "95% interval"])],
      rows.map((row) => [
        visible(row.token_class),
        count(row.n_tokens),
        ...shown.flatMap((name) => [signed(row[name]), interval(row[metrics[name].low], row[metrics[name].high])]),
      ]),
    ],
  });
  const boxes = removable.map((name) => {
    const onchange = ({ target }) => change({ removed: target.checked ? name : "" });
    const box = make("input", { type: "checkbox", id: `removed-${name}`, onchange });
    byId("removals").append(make("label", {}, box, ` ${removedName(name)}`));
    return box;
  });
  watch(["removed"], () => removable.forEach((name, i) => (boxes[i].checked = state.removed === name)));
}
byId("removed-in-grid").addEventListener("click", () => {
  change({ metric: state.removed || CONTRAST });
  goTo(byId("panel-heads"));
});
