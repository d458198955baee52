// One object says what is shown; it is mirrored to the address, and every panel redraws from it.

const OVERVIEW = "*"; // in place of a class: each head's strongest class

// What there is to choose: `first` is the choice at first, `among` returns what may be chosen, `least` is the least number,
// `input` is the element that shows and changes it. An address says it in words: `said` and `read`. What is `ofScheme` comes
// back when the reader comes back to the scheme that it was chosen in.
const fields = {};
const initial = {};
const state = {};
function remember(choices) {
  for (const [key, field] of Object.entries(choices)) {
    fields[key] = field;
    initial[key] = state[key] = field.first;
  }
}

remember({
  head: {
    first: headByLabel.get(data.opening.head) ?? 0,
    input: "head",
    among: () => headNumbers,
    said: headLabel,
    read: (text) => headByLabel.get(text),
  },
  class: { first: OVERVIEW, input: "class", among: () => [OVERVIEW, ...classesOf()], ofScheme: true },
  scheme: { first: data.schemes[0].name, input: "scheme", among: () => Object.keys(schemes) },
  metric: { first: "log2_amplification", input: "metric", among: () => Object.keys(metrics) },
  palette: { first: "red-blue", among: () => Object.keys(data.colours.palettes) },
  theme: { first: "auto", among: () => ["auto", "light", "dark"] },
});

// A text of an address or of an input as a choice of the kind of the first one.
const readers = { boolean: (text) => text === "true", number: Number, string: (text) => text };
const readAs = (key, text) => (fields[key].read ?? readers[typeof fields[key].first])(text);

const watchers = []; // without keys: after every change
const watch = (keys, draw) => watchers.push({ keys, draw });

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

const markWaiting = () => (document.documentElement.dataset.waiting = waiting.size);

const chosenIn = {}; // of each scheme, what was chosen in it

// Change some of the state, then redraw the panels that look at what changed.
function change(part) {
  const before = { ...state };
  Object.assign(state, part);
  if (state.scheme !== before.scheme) {
    const own = Object.keys(fields).filter((key) => fields[key].ofScheme);
    chosenIn[before.scheme] = Object.fromEntries(own.map((key) => [key, before[key]]));
    Object.assign(state, chosenIn[state.scheme], part);
  }
  repair();
  const changed = new Set(Object.keys(state).filter((key) => state[key] !== before[key]));
  if (!changed.size) return;
  mirror();
  redraw(changed);
}

function redraw(changed) {
  for (const { keys, draw } of watchers) if (!keys || keys.some((key) => changed.has(key))) draw(changed);
}

// Whatever an address asks for, the state names only what exists; the scheme goes first, because classes are of a scheme.
function repair() {
  for (const key of ["scheme", ...Object.keys(fields)]) {
    const { first, among, least } = fields[key];
    if (among && !among().includes(state[key])) state[key] = first;
    if (least !== undefined && !(state[key] >= least)) state[key] = least;
  }
}

const shownScheme = () => schemes[state.scheme];
const shownMetric = () => metrics[state.metric];
const shownRange = () => shownScheme().ranges[state.metric];
const classesOf = () => shownScheme().classes;
const chosenClass = () => classesOf().indexOf(state.class);

function hash() {
  const named = new URLSearchParams();
  for (const [key, { said = String }] of Object.entries(fields)) {
    if (["head", "class", "scheme"].includes(key) || state[key] !== initial[key]) named.set(key, said(state[key]));
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

// Read the address; what it does not name is as at first, so that a link always shows the same view. One that names no view
// shows where the page opens. Then the address says what is shown, so that Back finds both as they were.
function restore() {
  const named = new Map(new URLSearchParams(location.hash.slice(1)));
  const asked = [...named.keys()].some((key) => Object.hasOwn(fields, key)) ? named : new Map(Object.entries(data.opening));
  const wanted = (key) => (asked.has(key) ? readAs(key, asked.get(key)) : initial[key]);
  change(Object.fromEntries(Object.keys(fields).map((key) => [key, wanted(key)])));
  mirror();
}
addEventListener("hashchange", restore);
