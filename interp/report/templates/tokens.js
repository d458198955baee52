// Panel "Which tokens?": the two ends of the head's ranking of tokens, searched and filtered.

const SHOWN = 60;
const vocabulary = {
  ...data.tokens,
  token_index: numbers(data.tokens.token_index),
  count: numbers(data.tokens.count),
  classes: unpacked(data.tokens.classes),
};
const tokenRows = unpacked(
  Object.fromEntries(
    ["head", "token", "bias_score_contrast", "ci_low", "ci_high"].map((name) => [name, data.tokens[name]]),
  ),
);

// The rows are sorted by head: where each head's begin.
const starts = new Int32Array(nHeads + 1);
tokenRows.head.forEach((head) => starts[head + 1]++);
starts.forEach((_, head) => head && (starts[head] += starts[head - 1]));

function tokenRow(at) {
  const token = tokenRows.token[at];
  const known = schemes[state.scheme].classes;
  return {
    ...headColumns(state.head),
    token_index: vocabulary.token_index[token],
    token_string: vocabulary.strings[token],
    count: vocabulary.count[token],
    [state.scheme]: known[vocabulary.classes[state.scheme][token]] ?? "",
    ...Object.fromEntries(
      ["bias_score_contrast", "ci_low", "ci_high"].map((name) => [name, exact(tokenRows[name][at], 7)]),
    ),
  };
}

function matching() {
  const wanted = state.search.toLowerCase();
  return Array.from({ length: starts[state.head + 1] - starts[state.head] }, (_, i) =>
    tokenRow(starts[state.head] + i),
  ).filter(
    (row) =>
      row.count >= state.count &&
      row.token_string.toLowerCase().includes(wanted) &&
      (!state.tokenClass || row[state.scheme] === state.tokenClass),
  );
}

function drawTokens() {
  const rows = matching();
  const up = rows.filter((row) => row.bias_score_contrast > 0).reverse();
  const down = rows.filter((row) => row.bias_score_contrast < 0);
  const all = tokenRows.bias_score_contrast.subarray(starts[state.head], starts[state.head + 1]);
  const paint = painter(
    metrics.bias_score_contrast,
    all.reduce((most, number) => Math.max(most, Math.abs(number)), 0) || 1,
  );
  fillTokens("amplified", up, paint);
  fillTokens("suppressed", down, paint);
  offer("tokens", rows.length, () => [...up, ...down]);
}

function fillTokens(id, rows, paint) {
  const heads = ["token", "class", "score − mean", "95% interval", "count"];
  const body = rows.slice(0, SHOWN).map((row) => {
    const { fill, ink } = paint(row.bias_score_contrast);
    const number = make("td", { className: "number", textContent: signed(row.bias_score_contrast) });
    Object.assign(number.style, { backgroundColor: fill, color: ink });
    return make(
      "tr",
      {},
      make(
        "th",
        { scope: "row" },
        make("bdi", { className: "token", textContent: visible(row.token_string) }),
      ),
      make("td", { textContent: visible(row[state.scheme]) || "–" }),
      number,
      make("td", { className: "number", textContent: interval(row.ci_low, row.ci_high) }),
      make("td", { className: "number", textContent: count(row.count) }),
    );
  });
  byId(`${id}-count`).textContent =
    rows.length > SHOWN ? `first ${SHOWN} of ${rows.length}` : rows.length ? "" : "no token matches";
  byId(id).replaceChildren(headerRow(heads), make("tbody", {}, ...body));
}

function drawTokenFilter() {
  const options = schemes[state.scheme].classes.map((name) =>
    make("option", { value: name, textContent: visible(name) }),
  );
  byId("token-class").replaceChildren(make("option", { value: "", textContent: "every class" }), ...options);
  byId("token-class").value = state.tokenClass;
}

function startTokens() {
  const { each, minimum, eligible, total } = data.tokens;
  byId("tokens-sub").textContent = [
    "Bias score of a token minus the head's mean, in nats: what the bias adds to the attention score of its key.",
    `A cut: the ${each} most amplified and ${each} most suppressed of ${count(eligible)} tokens that occur at`,
    `least ${minimum} times (${count(total)} in all); every token is in tokens.parquet.`,
  ].join(" ");
  byId("search").addEventListener("input", ({ target }) => change({ search: target.value }));
  byId("token-class").addEventListener("change", ({ target }) => change({ tokenClass: target.value }));
  byId("count").addEventListener(
    "input",
    ({ target }) => target.value && change({ count: Number(target.value) }),
  );
  drawTokenFilter();
  drawTokens();
}
watch(["scheme", "tokenClass"], drawTokenFilter);
watch(["head", "scheme", "search", "tokenClass", "count", "palette", "theme"], afterPaint(drawTokens));
