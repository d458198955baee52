// Which tokens? The two ends of the head's ranking of tokens, searched and filtered.

const SHOWN = 60;
const tokens = data.panels.tokens;

// The rows are sorted by head: where each head's begin.
const starts = new Int32Array(nHeads + 1);
tokens.rows.forEach((rows, head) => (starts[head + 1] = starts[head] + rows));

function tokenRow(at) {
  const token = tokens.token[at];
  return {
    ...headColumns(state.head),
    token_index: tokens.token_index[token],
    token_string: tokens.strings[token],
    count: tokens.count[token],
    [state.scheme]: classesOf()[tokens.classes[state.scheme][token]] ?? "",
    ...numbersAt(tokens.values, at),
  };
}

// The amplified, from the strongest down, then the suppressed.
function matching() {
  const wanted = state.search.toLowerCase();
  const first = starts[state.head];
  const rows = Array.from({ length: starts[state.head + 1] - first }, (_, i) => tokenRow(first + i)).filter(
    (row) =>
      row.count >= state.count &&
      row.token_string.toLowerCase().includes(wanted) &&
      (!state.tokenClass || row[state.scheme] === state.tokenClass),
  );
  return [...rows.filter(amplified).reverse(), ...rows.filter(suppressed)];
}

const amplified = (row) => row.bias_score_contrast > 0;
const suppressed = (row) => row.bias_score_contrast < 0;

function fillTokens(id, rows, paint) {
  const number = (textContent) => make("td", { className: "number", textContent });
  const shown = rows.slice(0, SHOWN).map((row) => {
    const token = make("bdi", { className: "token", textContent: visible(row.token_string) });
    const score = number(signed(row.bias_score_contrast));
    Object.assign(score.style, paint(row.bias_score_contrast));
    const rest = [number(interval(row.ci_low, row.ci_high)), number(count(row.count))];
    return [token, visible(row[state.scheme]) || "–", score, ...rest];
  });
  byId(`${id}-count`).textContent =
    rows.length > SHOWN ? `first ${SHOWN} of ${rows.length}` : rows.length ? "" : "no token matches";
  fillTable(byId(id), ["token", "class", "score − mean", "95% interval", "count"], shown);
}

function drawTokenFilter() {
  options(byId("token-class"), [["", "every class"], ...classesOf().map((name) => [name, visible(name)])]);
  byId("token-class").value = state.tokenClass;
}

const { each, minimum, eligible, total } = tokens;
byId("tokens-sub").textContent = [
  "Bias score of a token minus the head's mean, in nats: what the bias adds to the attention score of its key.",
  `A cut: the ${each} most amplified and ${each} most suppressed of ${count(eligible)} tokens that occur at`,
  `least ${minimum} times (${count(total)} in all); every token is in tokens.parquet.`,
].join(" ");
panel({
  name: "tokens",
  state: {
    search: { first: "", input: "search" },
    tokenClass: { first: "", input: "token-class", among: () => ["", ...classesOf()], ofScheme: true },
    count: { first: 10, input: "count", least: 1 },
  },
  watch: ["head", "scheme", "search", "tokenClass", "count", "palette", "theme"],
  rows: matching,
  named: () => ({ class: state.tokenClass || OVERVIEW, metric: "bias_score_contrast" }),
  draw(rows) {
    const all = tokens.values.bias_score_contrast.subarray(starts[state.head], starts[state.head + 1]);
    const most = all.reduce((most, number) => Math.max(most, Math.abs(number)), 0) || 1;
    const paint = painter(metrics.bias_score_contrast, most);
    fillTokens("amplified", rows.filter(amplified), paint);
    fillTokens("suppressed", rows.filter(suppressed), paint);
  },
  keys: { "/": () => byId("search").focus() },
});
watch(["scheme", "tokenClass"], drawTokenFilter);
drawTokenFilter();

// Which heads move a token? All heads for the most frequent tokens; of others, those at whose ends they stand.
const frequent = tokens.found.shape[0];
const spelled = tokens.strings.map(visible);
const OFFERED = 12;

// The tokens that are meant: as typed, else with a space before it, else all that hold it, the most frequent first.
function meant() {
  if (!state.find) return [];
  const lower = state.find.toLowerCase();
  const holding = spelled.flatMap((text, token) => (text.toLowerCase().includes(lower) ? [token] : []));
  const rank = (token) => (spelled[token] === state.find ? 0 : spelled[token] === ` ${state.find}` ? 1 : 2);
  return holding.sort((a, b) => rank(a) - rank(b) || a - b);
}

function foundRow(token, head) {
  const at = tokens.token.subarray(starts[head], starts[head + 1]).indexOf(token);
  if (at < 0 && token >= frequent) return null;
  return {
    ...headColumns(head),
    token_index: tokens.token_index[token],
    token_string: tokens.strings[token],
    count: tokens.count[token],
    ...{ bias_score_contrast: NaN, ci_low: NaN, ci_high: NaN },
    ...(token < frequent ? columnsAt(tokens.found, token, head) : {}),
    ...(at < 0 ? {} : numbersAt(tokens.values, starts[head] + at)),
  };
}

function foundRows() {
  const [token] = meant();
  const rows = token === undefined ? [] : headNumbers.map((head) => foundRow(token, head));
  return rows
    .filter((row) => row && Number.isFinite(row.bias_score_contrast))
    .sort((a, b) => b.bias_score_contrast - a.bias_score_contrast);
}

const between = ({ ci_low, ci_high }) => (Number.isFinite(ci_low) ? interval(ci_low, ci_high) : "–");

function drawFound(rows) {
  const [token, ...others] = meant();
  const known = token !== undefined;
  byId("find-said").textContent = known
    ? `“${spelled[token]}” occurs ${plural(tokens.count[token], "time")}: ${rows.filter(amplified).length} of ` +
      `${plural(rows.length, "head")}${token < frequent ? "" : ", those at whose ends it stands,"} score it above their mean.`
    : state.find && `No token in this page holds “${visible(state.find)}”.`;
  const offered = others.slice(0, OFFERED).map((other) =>
    Object.assign(linkButton(spelled[other], () => change({ find: spelled[other] })), { className: "link token" }),
  );
  byId("find-others").replaceChildren(...(offered.length ? ["Others: ", ...offered.flatMap((button) => [button, " "])] : []));
  byId("find-box").hidden = !rows.length;
  const strongest = rows.reduce((most, row) => Math.max(most, Math.abs(row.bias_score_contrast)), 0) || 1;
  const paint = painter(metrics.bias_score_contrast, strongest);
  const shown = rows.length > LISTED ? [...rows.slice(0, LISTED / 2), ...rows.slice(-LISTED / 2)] : rows;
  byId("find-count").textContent =
    rows.length > LISTED ? `the first ${LISTED / 2} and the last ${LISTED / 2} of ${count(rows.length)} heads` : "";
  fillTable(
    byId("found"),
    ["head", "score − mean", "95% interval"],
    shown.map((row) => {
      const score = make("td", { className: "number", textContent: signed(row.bias_score_contrast) });
      Object.assign(score.style, paint(row.bias_score_contrast));
      const choose = linkButton(labelOf(row), () => change({ head: headByLabel.get(labelOf(row)) }));
      return [choose, score, make("td", { className: "number", textContent: between(row) })];
    }),
  );
}

byId("find-sub").textContent = [
  frequent < eligible
    ? `The ${count(frequent)} most frequent of ${count(eligible)} tokens in all ${plural(nHeads, "head")}; of the others, only heads ` +
      "that have them among their most amplified or suppressed, and intervals only of these. result.find(token) has all."
    : `All ${count(eligible)} tokens that occur at least ${minimum} times, in all ${plural(nHeads, "head")}.`,
  "Some head comes first for every token, along directions that mean nothing too.",
].join(" ");
panel({
  name: "find",
  state: { find: { first: "", input: "find" } },
  watch: ["find", "palette", "theme"],
  rows: foundRows,
  draw: drawFound,
});
