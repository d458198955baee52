// Panel "Is it position, not class?": the mean bias score along the context, with and without the first token.

const steps = {
  first: numbers(data.positions.first),
  last: numbers(data.positions.last),
  n_tokens: numbers(data.positions.n_tokens),
  values: unpacked(data.positions.values),
};
const profile = byId("profile");
const hasProfile = steps.first.length > 0 && Boolean(data.figures.profile);

function profileRows() {
  const wide = steps.first.length;
  const at = (name, i) => exact(steps.values[name][state.head * wide + i], 4);
  return Array.from({ length: wide }, (_, i) => ({
    ...headColumns(state.head),
    pos: steps.first[i],
    last_pos: steps.last[i],
    n_tokens: steps.n_tokens[i],
    bias_score_mean: at("mean", i),
    ci_low: at("low", i),
    ci_high: at("high", i),
  })).filter((row) => state.firstToken || row.pos > 0);
}

const spanOf = (row) => (row.pos === row.last_pos ? `${row.pos}` : `${row.pos}–${row.last_pos}`);

function profileTraces(rows) {
  const [band, line] = structuredClone(data.figures.profile.data);
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
    customdata: rows.map((row) => [
      `position ${spanOf(row)}: ${signed(row.bias_score_mean)} ${interval(row.ci_low, row.ci_high)} nats<br>n = ${count(row.n_tokens)}`,
    ]),
    hovertemplate: "%{customdata[0]}<extra></extra>",
  });
  line.line.color = accent;
  return [band, line];
}

function profileLayout() {
  const layout = themed(structuredClone(data.figures.profile.layout));
  for (const axis of [layout.xaxis, layout.yaxis]) axis.fixedrange = true;
  return Object.assign(layout, { height: 300, margin: { l: 54, r: 12, t: 8, b: 44 } });
}

function drawProfile() {
  if (!hasProfile) return;
  const rows = profileRows();
  drawChart(profile, profileTraces(rows), profileLayout());
  const best = rows.reduce((most, row) => (row.bias_score_mean > most.bias_score_mean ? row : most), rows[0]);
  const least = rows.reduce((most, row) => (row.bias_score_mean < most.bias_score_mean ? row : most), rows[0]);
  byId("profile-words").textContent = rows.length
    ? `Highest at position ${spanOf(best)} (${signed(best.bias_score_mean)} nats), lowest at ${spanOf(least)} (${signed(least.bias_score_mean)} nats).`
    : "";
  offer("profile", rows.length, profileRows);
  if (byId("profile-table").open) drawProfileTable();
}

function drawProfileTable() {
  fillTable(
    byId("profile-table"),
    ["position", "n", "mean bias score", "95% interval"],
    profileRows().map((row) => [
      spanOf(row),
      count(row.n_tokens),
      signed(row.bias_score_mean),
      interval(row.ci_low, row.ci_high),
    ]),
  );
}

charts.profile = () => framed(profileTraces(profileRows()), profileLayout(), "positional profile");

function startProfile() {
  byId("profile-part").hidden = !hasProfile;
  byId("profile-none").hidden = hasProfile;
  byId("first-token").addEventListener("change", ({ target }) => change({ firstToken: target.checked }));
  byId("profile-table").addEventListener("toggle", drawProfile);
  drawProfile();
}
watch(["head", "theme", "firstToken"], afterPaint(drawProfile));
