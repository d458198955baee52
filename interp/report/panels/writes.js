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

const ENDS = ["top", "bottom"];
const [, parts, ends, each] = writes.shape;

function writtenRows() {
  const first = state.head * parts * ends * each;
  const places = Array.from({ length: parts * ends * each }, (_, place) => place);
  return places.flatMap((place) => {
    const token = writes.token[first + place];
    if (token < 0) return [];
    return {
      ...headColumns(state.head),
      of: PARTS[Math.floor(place / (ends * each))].of,
      end: ENDS[Math.floor(place / each) % ends],
      rank: place % each,
      token_index: writes.token_index[token],
      token_string: writes.strings[token],
      count: writes.count[token],
      ...numbersAt(writes.values, first + place),
    };
  });
}

function writtenList(rows, name) {
  const items = rows.map((row) =>
    make("li", {}, make("bdi", { className: "token", textContent: visible(row.token_string) }), ` ${signed(row.value)}`),
  );
  return make("div", {}, make("h4", { textContent: name }), make("ol", { className: "written" }, ...items));
}

panel({
  name: "writes",
  watch: ["head"],
  rows: writtenRows,
  named: () => ({ scheme: null, class: null, metric: null }),
  draw(rows) {
    const shown = PARTS.map(({ of, title, ends, what }) => {
      const own = rows.filter((row) => row.of === of);
      const lists = ends.map((name, at) => writtenList(own.filter((row) => row.end === ENDS[at]), name));
      const body = own.length ? make("div", { className: "pair" }, ...lists) : make("p", { textContent: "No such bias." });
      return make("div", {}, make("h3", { textContent: title }), make("p", { className: "fine", textContent: what }), body);
    });
    byId("writes").replaceChildren(...shown);
  },
});
