// The other half of "Is it position, not class?": contrasts as measured, and between tokens at the same positions.

const adjusted = byId("adjusted");
const removable = ["contrast_position", "contrast_frequency"].filter((name) => metrics[name]);

function adjustedRows() {
  const { classes } = schemes[state.scheme];
  return classes
    .map((_, klass) => {
      const row = cell(state.scheme, state.head, klass);
      const { layer, head, scheme, token_class, n_tokens } = row;
      const kept = ["bias_score_contrast", "contrast_low", "contrast_high"].concat(
        removable.flatMap((name) => [name, `${name}_low`, `${name}_high`]),
      );
      return {
        layer,
        head,
        scheme,
        token_class,
        n_tokens,
        ...Object.fromEntries(kept.map((name) => [name, row[name]])),
      };
    })
    .filter((row) => state.firstToken || row.token_class !== data.sink)
    .sort(byValue("bias_score_contrast"));
}

function adjustedTraces(rows) {
  const [before, after] = structuredClone(data.figures.adjusted.data);
  const { soft, accent } = paintBox();
  const traces = [dots(before, rows, metrics.bias_score_contrast, soft, 0.16)];
  if (state.removed) {
    traces.push(
      dots({ ...after, name: removedName(state.removed) }, rows, metrics[state.removed], accent, -0.16),
    );
  }
  return traces;
}

const removedName = (name) => metrics[name].title.replace("contrast, ", "");

function drawAdjusted() {
  if (!removable.length) return;
  const rows = adjustedRows();
  drawChart(adjusted, adjustedTraces(rows), dotLayout("adjusted", rows, "bias score contrast (nats)"));
  byId("adjusted-words").textContent = adjustedWords(rows);
  offer("adjusted", rows.length, adjustedRows);
  if (byId("adjusted-table").open) drawAdjustedTable(rows);
}

// How much of the contrasts is left, in one sentence.
function adjustedWords(rows) {
  if (!state.removed) return "Tick a box to see what is left between tokens at the same positions.";
  const both = rows.filter(
    (row) =>
      row.n_tokens >= data.few && Number.isFinite(row[state.removed]) && Number.isFinite(row.bias_score_contrast),
  );
  const size = (name) => Math.sqrt(both.reduce((sum, row) => sum + row[name] ** 2, 0) / both.length);
  const share = size(state.removed) / size("bias_score_contrast");
  return both.length
    ? `With ${removedName(state.removed)}, ${percent(share)} of the contrasts' size is left (root mean square over ${plural(both.length, "class", "classes")}).`
    : "No class has tokens at the same positions as another.";
}

function drawAdjustedTable(rows) {
  const shown = ["bias_score_contrast", ...removable];
  fillTable(
    byId("adjusted-table"),
    ["class", "n", ...shown.flatMap((name) => [metrics[name].title, "95% interval"])],
    rows.map((row) => [
      visible(row.token_class),
      count(row.n_tokens),
      ...shown.flatMap((name) => [
        signed(row[name]),
        interval(row[metrics[name].low], row[metrics[name].high]),
      ]),
    ]),
  );
}

charts.adjusted = () => {
  const rows = adjustedRows();
  return framed(adjustedTraces(rows), dotLayout("adjusted", rows, "bias score contrast (nats)"), "contrasts");
};

function startAdjusted() {
  byId("adjusted-part").hidden = !removable.length;
  byId("adjusted-none").hidden = removable.length > 0;
  for (const name of removable) {
    const box = make("input", { type: "checkbox", id: `removed-${name}` });
    box.addEventListener("change", () => change({ removed: box.checked ? name : "" }));
    byId("removals").append(make("label", {}, box, ` ${removedName(name)}`));
  }
  byId("removed-in-grid").addEventListener("click", () => {
    change({ metric: state.removed || "bias_score_contrast" });
    goTo(byId("panel-heads"));
  });
  byId("adjusted-table").addEventListener("toggle", drawAdjusted);
  drawRemoved();
  drawAdjusted();
}

function drawRemoved() {
  for (const name of removable) byId(`removed-${name}`).checked = state.removed === name;
}
watch(["removed"], drawRemoved);
watch(["head", "scheme", "theme", "removed", "firstToken"], afterPaint(drawAdjusted));
