// Real text: passages coloured token by token, ranked for the chosen head, one from every decile.

const text = data.panels.passages;
const size = text.strings.length;
const box = byId("passages");
const passages = [];
const words = [];
let current = 0;
const titleOf = (title, document) => (title ? visible(title) : `document ${document}`);

for (let at = 0; at < size; at++) {
  if (text.passage[at] !== text.passage[at - 1]) {
    passages.push({ first: at, label: make("h3"), body: make("p", { className: "passage" }) });
  }
  const token = make("bdi", { textContent: visible(text.strings[at]) });
  const word = make("span", { className: "word", tabIndex: -1 }, token, make("small"));
  word.dataset.at = at;
  words.push(word);
  passages.at(-1).body.append(word);
  passages.at(-1).last = at;
}
passages.forEach((passage, i) => {
  passage.document = text.document[i];
  passage.title = titleOf(text.titles[i], passage.document);
  passage.box = make("article", { className: "passage-box" }, passage.label, passage.body);
});

const contrast = (at) => text.values.contrast[state.head * size + at];

// Passages ranked by their strongest token for this head, each with its decile.
function rankedPassages() {
  const strength = (at) => Math.abs(contrast(at)) || 0;
  const ranked = passages.map((passage) => {
    let peak = passage.first;
    for (let at = passage.first; at <= passage.last; at++) if (strength(at) > strength(peak)) peak = at;
    return { ...passage, peak };
  });
  ranked.sort((a, b) => strength(b.peak) - strength(a.peak));
  return ranked.map((passage, i) => ({ ...passage, decile: 10 - Math.floor((10 * i) / ranked.length) }));
}

function drawPassages() {
  const ranked = rankedPassages();
  const strong = limitOf();
  const paint = painter(metrics.bias_score_contrast, strong);
  const seen = new Set();
  for (const passage of ranked) {
    const again = ranked.length > 10 && seen.has(passage.decile);
    passage.box.hidden = again && !state.allPassages;
    seen.add(passage.decile);
    passage.label.textContent = [
      placeOf(passage, ranked),
      `strongest token ${signed(contrast(passage.peak))} nats`,
      passage.title,
    ].join(" · ");
    for (let at = passage.first; at <= passage.last && !passage.box.hidden; at++)
      paintWord(words[at], contrast(at), strong, paint);
  }
  box.append(...ranked.map(({ box }) => box));
  legend(byId("passages-legend"), metrics.bias_score_contrast, strong, "nats", [
    note("over", "solid line: amplified"),
    note("under", "dotted line: suppressed"),
  ]);
  byId("token-readout").textContent = readout(current);
}

function placeOf(passage, ranked) {
  if (ranked.length < 10) return `rank ${ranked.indexOf(passage) + 1} of ${ranked.length}`;
  const end = { 10: ", strongest", 1: ", weakest" }[passage.decile] ?? "";
  return `decile ${passage.decile} of 10${end}`;
}

function limitOf() {
  const strengths = words
    .map((_, at) => Math.abs(contrast(at)))
    .filter(Number.isFinite)
    .sort((a, b) => a - b);
  return strengths[Math.floor(0.99 * (strengths.length - 1))] || 1;
}

function paintWord(word, number, strong, paint) {
  const side = Math.abs(number) < 0.2 * strong ? "" : number > 0 ? " over" : " under";
  word.className = `word${side}`;
  Object.assign(word.firstChild.style, paint(number));
}

function drawTags() {
  const codes = text.classes[state.scheme];
  words.forEach((word, at) => {
    const tag = word.lastChild;
    tag.textContent = visible(classesOf()[codes[at]] ?? "–");
    tag.className = codes[at] === chosenClass() ? "chosen" : "";
  });
}

function passageRow(at) {
  const { contrast: number, ...attention } = columnsAt(text, state.head, at);
  const passage = passages.find(({ last }) => at <= last);
  return {
    ...headColumns(state.head),
    passage: text.passage[at],
    document: passage.document,
    place: at - passage.first,
    token_index: text.token_index[at],
    token_string: text.strings[at],
    [state.scheme]: classesOf()[text.classes[state.scheme][at]] ?? "",
    bias_score: exact(contrast(at) + text.means[state.head], 5),
    bias_score_contrast: number,
    ...attention,
  };
}

function readout(at) {
  const row = passageRow(at);
  return [
    `“${visible(row.token_string)}”`,
    visible(row[state.scheme]) || "no class",
    `score − mean ${signed(row.bias_score_contrast)} nats`,
    `mean attention ${percent(row.attention)}, without the bias ${percent(row.attention_unbiased)}`,
  ].join(" · ");
}

function point(at) {
  words[current].tabIndex = -1;
  words[(current = at)].tabIndex = 0;
  byId("token-readout").textContent = readout(at);
}

// Left and right go through the shown tokens; up and down to the passage above or below.
function moveWord(key) {
  const shown = [...box.querySelectorAll("article:not([hidden])")];
  const article = words[current].closest("article");
  const within = [...article.querySelectorAll(".word")];
  const place = within.indexOf(words[current]);
  const beside = { ArrowUp: -1, ArrowDown: 1 }[key];
  if (beside) return shown[shown.indexOf(article) + beside]?.querySelector(".word");
  return { ArrowLeft: within[place - 1], ArrowRight: within[place + 1], Home: within[0], End: within.at(-1) }[key];
}

const sentences = [
  "Colour is the bias score of a token minus the head's mean. Under the tokens of the chosen class stands its name; point at a",
  "passage, or go into it with the keys, for all classes.",
  "Passages of the corpus ranked by their strongest token, from every decile of strength, not only the best.",
  "Hover or focus a token for its attention.",
];
if (passages.length < text.total)
  sentences.push(`${passages.length} of ${text.total} sampled passages are in this page; passages.parquet has all.`);
byId("passages-sub").textContent = sentences.join(" ");
byId("all-passages-label").textContent = `all ${passages.length} passages`;
byId("all-passages").closest("label").hidden = passages.length <= 10;
box.addEventListener("keydown", (event) => {
  if (!/^(Arrow|Home|End)/.test(event.key)) return;
  event.preventDefault();
  moveWord(event.key)?.focus();
});
for (const kind of ["focusin", "pointerover"]) {
  box.addEventListener(kind, ({ target }) => {
    const word = target.closest(".word");
    if (word) point(Number(word.dataset.at));
  });
}
// Where this head scores tokens of the class highest and lowest in the whole corpus, each token once more in its text.
const top = text.top;
const ENDS = { highest: 0, lowest: 1 };
const MOST = 5; // of each end, where no class is chosen

function topRows(end) {
  const { head_number, scheme, place, end: ends, bias_score_contrast } = top.rows;
  const shown = data.schemes.findIndex(({ name }) => name === state.scheme);
  const klass = chosenClass();
  const rows = [];
  for (let at = head_number.indexOf(state.head); head_number[at] === state.head; at++)
    if (scheme[at] === shown && ends[at] === end && (klass < 0 || place[at] === klass)) rows.push(at);
  const sign = end === ENDS.highest ? -1 : 1;
  return rows.sort((a, b) => sign * (bias_score_contrast[a] - bias_score_contrast[b])).slice(0, klass < 0 ? MOST : rows.length);
}

function drawTop() {
  const klass = chosenClass();
  const paint = painter(metrics.bias_score_contrast, limitOf());
  const name = klass < 0 ? "a token" : visible(classesOf()[klass]);
  let number = 0;
  for (const [end, code] of Object.entries(ENDS)) {
    const items = topRows(code).map((at) => topItem(at, paint, klass < 0));
    number += items.length;
    byId(`${end}-title`).textContent = `Scores ${name} ${end}`;
    byId(end).replaceChildren(...items);
  }
  const { pairs, total } = top;
  byId("top-sub").textContent = [
    "The tokens of the class with the highest and the lowest bias scores of this head, one of a context, over the whole corpus:",
    "score − mean in nats, then the text. Along any direction some tokens come first, so the ends alone do not show that the",
    "class matters; the findings do. Where they all stand at the same positions, it may be the position.",
    ...(pairs < total
      ? [`For ${count(pairs)} of ${count(total)} pairs of a head and a class; top_passages.parquet has all and more of each.`]
      : []),
    ...(number ? [] : ["Nothing is here of this pair."]),
  ].join(" ");
}

function topItem(at, paint, named) {
  const { passage, bias_score_contrast: scores, place } = top.rows;
  const one = passage[at];
  const [title, token] = ["title", "token_string"].map((part) => top.shared[part][top[part][one]]);
  const score = make("b", { textContent: signed(scores[at]) });
  const word = make("bdi", { className: "token", textContent: visible(token) });
  Object.assign(word.style, paint(scores[at]));
  const where = [
    ...(named ? [visible(classesOf()[place[at]])] : []),
    titleOf(title, top.document[one]),
    `position ${top.pos[one]}`,
  ].join(" · ");
  return make(
    "li",
    {},
    score,
    make("span", { className: "context" }, shownText(top.before[one], -1), word, shownText(top.after[one], 1)),
    make("small", { textContent: where }),
  );
}

// What stands beside a token, whole words of it; long tokens are cut on the far side.
function shownText(words, side) {
  const cut = words.length > LONGEST ? [...words].slice(...(side < 0 ? [-LONGEST] : [0, LONGEST])).join("") : words;
  return make("bdi", { textContent: visible(cut) });
}

if (top) {
  watch(["head", "scheme", "class", "palette", "theme"], afterPaint(drawTop));
  drawTop();
}

panel({
  name: "passages",
  state: { allPassages: { first: false, input: "all-passages" } },
  watch: ["head", "palette", "theme", "allPassages"],
  total: () => size,
  rows: () => words.map((_, at) => passageRow(at)),
  named: () => ({ metric: "bias_score_contrast" }),
  draw: drawPassages,
});
watch(["scheme", "class"], afterPaint(drawTags));
drawTags();
point(rankedPassages()[0].first);
