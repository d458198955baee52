// Does it matter? The model run again with its bias scaled, beside a random change of the same size.

const effect = data.panels.effect;
const DIRECTIONS = ["bias", "random"];
const PLACES = ["all", "layer", "head"];
const PATHS = ["total", "direct", "direct position", "direct beyond position", "indirect"];

// Where the bias is scaled, as the tables name it: everywhere, in the chosen head's layer, or in this head.
const interventionName = () =>
  ({ all: "all", layer: headLabel(state.head).split("H")[0], head: headLabel(state.head) })[state.place];

const way = (direction) => [effect.scales.indexOf(state.scale), DIRECTIONS.indexOf(direction)];

function lossAt(scheme, klass, direction) {
  return columnsAt(effect.loss[scheme], effect.names.indexOf(interventionName()), ...way(direction), klass);
}

// What is shown beside each other: the change of attention to a class, and of the loss on it.
const kinds = {
  attention: {
    column: "log2_change",
    title: "change of attention (log₂ ratio)",
    unit: "doublings",
    at: (klass, direction) =>
      columnsAt(effect.attention[state.scheme], PLACES.indexOf(state.place), ...way(direction), state.head, klass),
    about: () => headColumns(state.head),
  },
  loss: {
    column: "difference",
    title: "change of loss (nats)",
    unit: "nats",
    at: (klass, direction) => lossAt(state.scheme, klass, direction),
    about: () => ({}),
  },
};

// One row per class, with the intervention and its control side by side.
function effectRows(kind) {
  const { column, at, about } = kinds[kind];
  const { n_tokens } = effect[kind][state.scheme];
  const rows = classesOf().map((token_class, klass) => {
    const [bias, random] = DIRECTIONS.map((direction) => at(klass, direction));
    const start = { intervention: interventionName(), scale: state.scale, ...about(), scheme: state.scheme, token_class };
    const ends = DIRECTIONS.flatMap((_, i) =>
      [column, "ci_low", "ci_high"].map((name) => [i ? `${name}_random` : name, [bias, random][i][name]]),
    );
    return { ...start, n_tokens: n_tokens[klass], ...Object.fromEntries(ends) };
  });
  return rows.sort(byValue(column));
}

function effectChart(kind, rows) {
  const [ring, diamond] = look("effect").data;
  const { soft, accent } = paintBox();
  const { column, unit, title } = kinds[kind];
  const part = (end) => ({ name: `${column}${end}`, low: `ci_low${end}`, high: `ci_high${end}`, title, unit });
  const found = dots(diamond, rows, part(""), accent, -0.16);
  const chart = {
    data: effect.draws ? [dots(ring, rows, part("_random"), soft, 0.16), found] : [found],
    layout: classLayout("effect", rows, title),
    subject: `${interventionName()} × ${state.scale}`,
  };
  return bound(chart, rows, endsOf(part(""), part("_random")), { include: [0] });
}

function effectTable(kind, rows) {
  const { column, title } = kinds[kind];
  const numbers = (row, end) => [signed(row[column + end], 3), interval(row[`ci_low${end}`], row[`ci_high${end}`], 3)];
  return [
    ["class", "n", title, "95% interval", "random direction", "95% interval"],
    rows.map((row) => [visible(row.token_class), count(row.n_tokens), ...numbers(row, ""), ...numbers(row, "_random")]),
  ];
}

// The whole of it in words: loss, predictions, and the same for the random direction.
function effectWords() {
  const verb = state.scale === 0 ? "Removing" : `Scaling by ${state.scale}`;
  const bias = { q: effect.vector, v: "b_V", qv: `${effect.vector} and b_V` }[effect.part];
  const name = interventionName();
  const where = { all: "in all heads", layer: `in layer ${name.slice(1)}`, head: `in ${name}` }[state.place];
  const [loss, random] = DIRECTIONS.map((direction) => lossAt("overall", 0, direction));
  if (!Number.isFinite(loss.difference)) return `In this run ${bias} was not scaled ${where}.`;
  const nats = (found) => `${signed(found.difference, 3)} ${interval(found.ci_low, found.ci_high, 3)} nats`;
  const words = [
    `${verb} ${bias} ${where} changes the loss by ${nats(loss)} (n = ${count(effect.loss.overall.n_tokens[0])})`,
    `and the top prediction of ${percent(loss.top1_changed)} of the tokens.`,
  ];
  if (effect.draws) words.push(`A random direction of the same size changes the loss by ${nats(random)}.`);
  return words.join(" ");
}

function pathRows() {
  const found = effect.paths[state.scheme];
  return classesOf().flatMap((token_class, klass) =>
    PATHS.map((path, i) => ({
      ...headColumns(state.head),
      scheme: state.scheme,
      token_class,
      path,
      n_tokens: found.n_tokens[klass],
      ...columnsAt(found, i, state.head, klass),
    })),
  );
}

function pathTable(rows) {
  const text = (row) => `${signed(row.log2_amplification)} ${interval(row.ci_low, row.ci_high)}`;
  return [
    ["class", "n", "total", "direct (this layer's bias)", "of that, position alone", "beyond position", "indirect (earlier layers')"],
    classesOf().map((name, klass) => {
      const own = rows.slice(PATHS.length * klass, PATHS.length * (klass + 1));
      return [visible(name), count(own[0].n_tokens), ...own.map(text)];
    }),
  ];
}

options(byId("scale"), effect.scales.map((scale) => [scale, scale === 0 ? "removed (× 0)" : `× ${scale}`]));
for (const [place, pattern] of Object.entries({ layer: /^L\d+$/, head: /^L\d+H/ })) {
  byId("place").querySelector(`[value=${place}]`).disabled = !effect.names.some((name) => pattern.test(name));
}
const WATCHED = ["head", "scheme", "theme", "place", "scale"];
remember({
  place: { first: "all", input: "place", among: () => PLACES },
  scale: { first: effect.scales[0], input: "scale", among: () => effect.scales },
});
for (const kind of Object.keys(kinds))
  panel({
    name: `effect-${kind}`,
    watch: WATCHED,
    rows: () => effectRows(kind),
    named: () => ({ class: OVERVIEW, metric: `${kind}-${interventionName()}-x${state.scale}` }),
    chart: (rows) => effectChart(kind, rows),
    table: (rows) => effectTable(kind, rows),
  });
panel({
  name: "paths",
  watch: WATCHED,
  rows: pathRows,
  named: () => ({ class: OVERVIEW, metric: `log2_amplification-${interventionName()}-x${state.scale}` }),
  draw(rows) {
    byId("effect-words").textContent = effectWords();
    byId("paths-part").hidden = !rows.some((row) => Number.isFinite(row.log2_amplification));
  },
  table: pathTable,
});
