// What a head's b_Q points at, what the head writes there, and what b_V writes: three pairs of lists.

const writes = data.panels.writes;
const PARTS = [
  { of: "b_Q", title: "Its b_Q points at", ends: ["most", "least"], what: "cosine of the embedding’s key and b_Q" },
  {
    of: "OV",
    title: "Attending to these, it writes",
    ends: ["raised", "lowered"],
    what: "logits where it attends to the first list instead of to frequent tokens at large; compare within a layer",
  },
  { of: "b_V", title: "Its b_V writes everywhere", ends: ["raised", "lowered"], what: "logits; compare within a layer" },
];

function writtenRows() {
  const { head_number, of, end, rank, token_index: token, value } = writes.rows;
  const rows = [];
  for (let at = head_number.indexOf(state.head); at >= 0 && head_number[at] === state.head; at++)
    rows.push({
      ...headColumns(state.head),
      of: PARTS[of[at]].of,
      end: ["top", "bottom"][end[at]],
      rank: rank[at],
      token_index: writes.token_index[token[at]],
      token_string: writes.strings[token[at]],
      count: writes.count[token[at]],
      value: exact(value[at], value.digits),
    });
  return rows;
}

function writtenList(rows, name) {
  const items = rows.flatMap((row) => [
    make("li", {}, make("bdi", { className: "token", textContent: visible(row.token_string) }), ` ${signed(row.value)}`),
  ]);
  return make("div", {}, make("h4", { textContent: name }), make("ol", { className: "written" }, ...items));
}

panel({
  name: "writes",
  watch: ["head"],
  rows: writtenRows,
  draw(rows) {
    const parts = PARTS.map(({ of, title, ends, what }) => {
      const own = rows.filter((row) => row.of === of);
      const lists = ends.map((name, at) => writtenList(own.filter((row) => row.end === ["top", "bottom"][at]), name));
      const body = own.length ? make("div", { className: "pair" }, ...lists) : make("p", { textContent: "No such bias." });
      return make("div", {}, make("h3", { textContent: title }), make("p", { className: "fine", textContent: what }), body);
    });
    byId("writes").replaceChildren(...parts);
  },
});
