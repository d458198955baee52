// One object says what is shown; it is mirrored to the address, and every panel redraws from it.

const OVERVIEW = "*"; // in place of a class: each head's strongest class

const initial = {
  head: headByLabel.get(data.first_head) ?? 0,
  scheme: data.schemes[0].name,
  class: OVERVIEW,
  metric: "log2_amplification",
  palette: "red-blue",
  theme: "auto",
  sort: "value",
  search: "",
  tokenClass: "",
  count: 10,
  allPassages: false,
  firstToken: true,
  removed: "",
  place: "all",
  scale: data.effect?.scales[0] ?? 0,
  statistic: "mean_absolute",
};
const state = { ...initial };

const watchers = [];
function watch(keys, draw) {
  watchers.push({ keys, draw });
}

// For panels below the fold: drawn after the browser has painted what the reader looks at, one at a time, so that no
// click waits for more than one of them.
const waiting = new Set();
function afterPaint(draw) {
  return () => {
    if (!waiting.size) requestAnimationFrame(() => setTimeout(drawNext));
    waiting.delete(draw);
    waiting.add(draw);
    markWaiting();
  };
}

function drawNext() {
  const [draw] = waiting;
  waiting.delete(draw);
  draw?.();
  markWaiting();
  if (waiting.size) requestAnimationFrame(() => setTimeout(drawNext));
}

function markWaiting() {
  document.documentElement.dataset.waiting = waiting.size;
}

// Change some of the state, then redraw the panels that look at what changed.
function change(part) {
  const before = { ...state };
  Object.assign(state, part);
  repair(before);
  const changed = new Set(Object.keys(state).filter((key) => state[key] !== before[key]));
  if (!changed.size) return;
  mirror();
  for (const { keys, draw } of watchers) if (keys.some((key) => changed.has(key))) draw(changed);
}

// Whatever an address asks for, the state names only what exists.
function repair(before) {
  if (!(state.head >= 0 && state.head < nHeads)) state.head = before.head;
  if (!Object.hasOwn(schemes, state.scheme)) state.scheme = before.scheme;
  if (!Object.hasOwn(metrics, state.metric)) state.metric = before.metric;
  if (!Object.hasOwn(data.colours.palettes, state.palette)) state.palette = initial.palette;
  if (!["auto", "light", "dark"].includes(state.theme)) state.theme = "auto";
  if (!["value", "n", "name"].includes(state.sort)) state.sort = "value";
  if (!(state.count >= 1)) state.count = 1;
  if (!(state.removed && Object.hasOwn(metrics, state.removed))) state.removed = "";
  if (!["all", "layer", "head"].includes(state.place)) state.place = "all";
  if (!(data.effect?.scales ?? []).includes(state.scale)) state.scale = initial.scale;
  if (!data.comparison?.classes.statistic.includes(state.statistic)) state.statistic = initial.statistic;
  const { classes } = schemes[state.scheme];
  if (!classes.includes(state.class)) state.class = OVERVIEW;
  if (!classes.includes(state.tokenClass)) state.tokenClass = "";
}

const chosenClass = () => schemes[state.scheme].classes.indexOf(state.class);

function hash() {
  const named = new URLSearchParams({
    head: headLabel(state.head),
    class: state.class,
    scheme: state.scheme,
  });
  for (const [key, kept] of Object.entries(state)) {
    if (!named.has(key) && kept !== initial[key]) named.set(key, String(kept));
  }
  return `#${named}`;
}

function mirror() {
  try {
    history.replaceState(null, "", hash());
  } catch {
    // Inside a notebook's frame the address cannot be changed; the page works without.
  }
}

// Read the address; what it does not name is as at first, so that a link always shows the same view.
function restore() {
  const asked = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  if (!("head" in asked || "class" in asked || "scheme" in asked || "metric" in asked)) return;
  const wanted = { ...initial, ...asked };
  change({
    ...Object.fromEntries(Object.keys(initial).map((key) => [key, wanted[key]])),
    head: headByLabel.get(asked.head) ?? initial.head,
    count: Number(wanted.count),
    scale: Number(wanted.scale),
    allPassages: String(wanted.allPassages) === "true",
    firstToken: String(wanted.firstToken) === "true",
  });
}
addEventListener("hashchange", restore);
