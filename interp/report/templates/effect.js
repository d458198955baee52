// Panel "Does it matter?": the model run again with its bias scaled, beside a random change of the same size.

const effect = data.effect;
const DIRECTIONS = ["bias", "random"];
const PLACES = ["all", "layer", "head"];
const unpackedIn = (record) =>
  Object.fromEntries(Object.entries(record).map(([name, { values }]) => [name, unpacked(values)]));
const effects = effect && {
  attention: unpackedIn(effect.attention),
  loss: unpackedIn(effect.loss),
  paths: unpackedIn(effect.paths),
};

// Where the bias is scaled, as the tables name it: everywhere, in the chosen head's layer, or in this head.
function interventionName() {
  return { all: "all", layer: headLabel(state.head).split("H")[0], head: headLabel(state.head) }[state.place];
}

const scaleIndex = () => effect.scales.indexOf(state.scale);
const read = (block, at) => exact(block[at], 4);

function attentionAt(klass, direction) {
  const { classes } = schemes[state.scheme];
  const row = (PLACES.indexOf(state.place) * effect.scales.length + scaleIndex()) * 2 + DIRECTIONS.indexOf(direction);
  const at = (row * nHeads + state.head) * classes.length + klass;
  const { log2_change, ci_low, ci_high } = effects.attention[state.scheme];
  return { value: read(log2_change, at), low: read(ci_low, at), high: read(ci_high, at) };
}

function lossAt(scheme, klass, direction, names = ["difference", "ci_low", "ci_high"]) {
  const wide = effect.loss[scheme].n_tokens.length;
  const place = effect.names.indexOf(interventionName());
  const row = (place * effect.scales.length + scaleIndex()) * 2 + DIRECTIONS.indexOf(direction);
  const [value, low, high] = names.map((name) =>
    place < 0 ? NaN : read(effects.loss[scheme][name], row * wide + klass),
  );
  return { value, low, high };
}

// One row per class, with the intervention and its control side by side.
function effectRows(kind) {
  const { classes } = schemes[state.scheme];
  const counts = effect[kind][state.scheme].n_tokens;
  const at = kind === "loss" ? (klass, way) => lossAt(state.scheme, klass, way) : attentionAt;
  const column = kind === "loss" ? "difference" : "log2_change";
  return classes
    .map((token_class, klass) => {
      const [bias, random] = DIRECTIONS.map((way) => at(klass, way));
      return {
        intervention: interventionName(),
        scale: state.scale,
        ...(kind === "loss" ? {} : headColumns(state.head)),
        scheme: state.scheme,
        token_class,
        n_tokens: counts[klass],
        [column]: bias.value,
        ci_low: bias.low,
        ci_high: bias.high,
        [`${column}_random`]: random.value,
        ci_low_random: random.low,
        ci_high_random: random.high,
      };
    })
    .sort(byValue(column));
}

const effectKinds = {
  attention: { column: "log2_change", title: "change of attention (log₂ ratio)", unit: "doublings" },
  loss: { column: "difference", title: "change of loss (nats)", unit: "nats" },
};

function effectTraces(kind, rows) {
  const [ring, diamond] = structuredClone(data.figures.effect.data);
  const { soft, accent } = paintBox();
  const { column, unit, title } = effectKinds[kind];
  const part = (end) => ({ name: `${column}${end}`, low: `ci_low${end}`, high: `ci_high${end}`, title, unit });
  const found = dots(diamond, rows, part(""), accent, -0.16);
  return effect.draws ? [dots(ring, rows, part("_random"), soft, 0.16), found] : [found];
}

function drawEffectChart(kind) {
  const rows = effectRows(kind);
  const { column, title } = effectKinds[kind];
  drawChart(byId(`effect-${kind}`), effectTraces(kind, rows), dotLayout("effect", rows, title));
  offer(`effect-${kind}`, rows.length, () => effectRows(kind));
  const details = byId(`effect-${kind}-table`);
  if (!details.open) return;
  fillTable(
    details,
    ["class", "n", title, "95% interval", "random direction", "95% interval"],
    rows.map((row) => [
      visible(row.token_class),
      count(row.n_tokens),
      signed(row[column], 3),
      interval(row.ci_low, row.ci_high, 3),
      signed(row[`${column}_random`], 3),
      interval(row.ci_low_random, row.ci_high_random, 3),
    ]),
  );
}

// The whole of it in words: loss, predictions, and the same for the random direction.
function effectWords() {
  const verb = state.scale === 0 ? "Removing" : `Scaling by ${state.scale}`;
  const bias = { q: "b_Q", v: "b_V", qv: "b_Q and b_V" }[effect.part];
  const where = { all: "in all heads", layer: `in layer ${interventionName().slice(1)}`, head: `in ${interventionName()}` };
  const loss = lossAt("overall", 0, "bias");
  if (!Number.isFinite(loss.value)) return `${bias} was not scaled ${where[state.place]} in this run.`;
  const random = lossAt("overall", 0, "random");
  const changed = lossAt("overall", 0, "bias", ["top1_changed", "top1_ci_low", "top1_ci_high"]);
  const number = ({ value, low, high }) => `${signed(value, 3)} ${interval(low, high, 3)} nats`;
  const words = [
    `${verb} ${bias} ${where[state.place]} changes the loss by ${number(loss)} (n = ${count(effect.loss.overall.n_tokens[0])})`,
    `and the top prediction of ${percent(changed.value)} of the tokens.`,
  ];
  if (effect.draws) words.push(`A random direction of the same size changes the loss by ${number(random)}.`);
  return words.join(" ");
}

function drawEffect() {
  byId("effect-words").textContent = effectWords();
  for (const kind of Object.keys(effectKinds)) drawEffectChart(kind);
  drawPaths();
}

const PATHS = ["total", "direct", "indirect"];
function pathRows() {
  const { classes } = schemes[state.scheme];
  const { n_tokens } = effect.paths[state.scheme];
  const { log2_amplification, ci_low, ci_high } = effects.paths[state.scheme];
  return classes.flatMap((token_class, klass) =>
    PATHS.map((path, i) => {
      const at = (i * nHeads + state.head) * classes.length + klass;
      return {
        ...headColumns(state.head),
        scheme: state.scheme,
        token_class,
        path,
        n_tokens: n_tokens[klass],
        log2_amplification: read(log2_amplification, at),
        ci_low: read(ci_low, at),
        ci_high: read(ci_high, at),
      };
    }),
  );
}

function drawPaths() {
  const rows = pathRows();
  const any = rows.some((row) => Number.isFinite(row.log2_amplification));
  byId("paths-part").hidden = !any;
  offer("paths", rows.length, pathRows);
  const text = (row) => `${signed(row.log2_amplification)} ${interval(row.ci_low, row.ci_high)}`;
  const lines = schemes[state.scheme].classes.map((name, klass) => [
    visible(name),
    count(rows[3 * klass].n_tokens),
    ...PATHS.map((_, i) => text(rows[3 * klass + i])),
  ]);
  if (any && byId("paths-table").open)
    fillTable(byId("paths-table"), ["class", "n", "total", "direct (this layer's bias)", "indirect (earlier layers')"], lines);
}

for (const kind of Object.keys(effectKinds)) {
  charts[`effect-${kind}`] = () => {
    const rows = effectRows(kind);
    const { title } = effectKinds[kind];
    return framed(effectTraces(kind, rows), dotLayout("effect", rows, title), `${interventionName()} × ${state.scale}`);
  };
}

function startEffect() {
  if (!effect) return;
  options(
    byId("scale"),
    effect.scales.map((scale) => [scale, scale === 0 ? "removed (× 0)" : `× ${scale}`]),
  );
  const made = { layer: /^L\d+$/, head: /^L\d+H/ };
  for (const [place, pattern] of Object.entries(made)) {
    byId("place").querySelector(`[value=${place}]`).disabled = !effect.names.some((name) => pattern.test(name));
  }
  byId("scale").addEventListener("change", ({ target }) => change({ scale: Number(target.value) }));
  byId("place").addEventListener("change", ({ target }) => change({ place: target.value }));
  for (const details of byId("panel-effect").querySelectorAll("details")) details.addEventListener("toggle", drawEffect);
  drawEffect();
  watch(["head", "scheme", "theme", "place", "scale"], afterPaint(drawEffect));
}
