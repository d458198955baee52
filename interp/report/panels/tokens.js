// Which tokens? The two ends of the head's ranking of tokens, searched and filtered.

const SHOWN = 60;
const tokens = data.panels.tokens;

// The rows are sorted by head: where each head's begin.
const starts = new Int32Array(nHeads + 1);
tokens.head.forEach((head) => starts[head + 1]++);
starts.forEach((_, head) => head && (starts[head] += starts[head - 1]));

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
