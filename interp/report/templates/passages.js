// Panel "Real text": passages coloured token by token, ranked for the chosen head, one from every decile.

const text = {
  ...data.passages,
  passage: numbers(data.passages.passage),
  token_index: numbers(data.passages.token_index),
  means: numbers(data.passages.means),
  classes: unpacked(data.passages.classes),
  values: unpacked(data.passages.values),
};
const size = text.strings.length;
const passages = [];
let words = [];
let current = 0;

function buildPassages() {
  for (let at = 0; at < size; at++) {
    if (text.passage[at] !== text.passage[at - 1]) {
      passages.push({ first: at, last: at, label: make("h3"), body: make("p", { className: "passage" }) });
    }
    const word = make(
      "span",
      { className: "word", tabIndex: -1 },
      make("bdi", { textContent: visible(text.strings[at]) }),
      make("small"),
    );
    word.dataset.at = at;
    words.push(word);
    passages.at(-1).body.append(word);
    passages.at(-1).last = at;
  }
  passages.forEach((passage, i) => {
    passage.document = text.document[i];
    passage.box = make("article", { className: "passage-box" }, passage.label, passage.body);
  });
  byId("passages").replaceChildren(...passages.map(({ box }) => box));
}

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
      `document ${passage.document}`,
    ].join(" · ");
    for (let at = passage.first; at <= passage.last && !passage.box.hidden; at++)
      paintWord(words[at], contrast(at), strong, paint);
  }
  byId("passages").append(...ranked.map(({ box }) => box));
  legend(byId("passages-legend"), metrics.bias_score_contrast, strong, "nats", [
    note("over", "solid line: amplified"),
    note("under", "dotted line: suppressed"),
  ]);
  byId("token-readout").textContent = size ? readout(current) : "";
  offer("passages", size, () => words.map((_, at) => passageRow(at)));
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
  const { fill, ink } = paint(number);
  const side = Math.abs(number) < 0.2 * strong ? "" : number > 0 ? " over" : " under";
  word.className = `word${side}`;
  word.firstChild.style.backgroundColor = fill;
  word.firstChild.style.color = ink;
}

function drawTags() {
  const { classes } = schemes[state.scheme];
  const codes = text.classes[state.scheme];
  const chosen = chosenClass();
  words.forEach((word, at) => {
    const tag = word.lastChild;
    tag.textContent = visible(classes[codes[at]] ?? "–");
    tag.className = codes[at] === chosen ? "chosen" : "";
  });
}

function passageRow(at) {
  const { classes } = schemes[state.scheme];
  const number = contrast(at);
  const mean = text.means[state.head];
  const passage = passages.find(({ last }) => at <= last);
  const read = (name) => exact(text.values[name][state.head * size + at], 4);
  return {
    ...headColumns(state.head),
    passage: text.passage[at],
    document: passage.document,
    place: at - passage.first,
    token_index: text.token_index[at],
    token_string: text.strings[at],
    [state.scheme]: classes[text.classes[state.scheme][at]] ?? "",
    bias_score: exact(number + mean, 5),
    bias_score_contrast: exact(number, 4),
    attention: read("attention"),
    attention_unbiased: read("attention_unbiased"),
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
  const shown = [...byId("passages").querySelectorAll("article:not([hidden])")];
  const box = words[current].closest("article");
  const within = [...box.querySelectorAll(".word")];
  const place = within.indexOf(words[current]);
  const beside = { ArrowUp: shown[shown.indexOf(box) - 1], ArrowDown: shown[shown.indexOf(box) + 1] }[key];
  return (
    { ArrowLeft: within[place - 1], ArrowRight: within[place + 1], Home: within[0], End: within.at(-1) }[
      key
    ] ?? beside?.querySelector(".word")
  );
}

function aboutPassages() {
  const { total } = data.passages;
  const sentences = [
    "Colour is the bias score of a token minus the head's mean; its class stands under it.",
    "Passages of the corpus ranked by their strongest token, from every decile of strength, not only the best.",
    "Hover or focus a token for its attention.",
  ];
  if (passages.length < total) {
    sentences.push(`${passages.length} of ${total} sampled passages are in this page; passages.parquet has all.`);
  }
  return sentences.join(" ");
}

function startPassages() {
  buildPassages();
  byId("passages").addEventListener("keydown", (event) => {
    if (!/^(Arrow|Home|End)/.test(event.key)) return;
    event.preventDefault();
    moveWord(event.key)?.focus();
  });
  for (const kind of ["focusin", "pointerover"]) {
    byId("passages").addEventListener(
      kind,
      ({ target }) => target.closest(".word") && point(Number(target.closest(".word").dataset.at)),
    );
  }
  byId("all-passages").addEventListener("change", ({ target }) => change({ allPassages: target.checked }));
  byId("all-passages-label").textContent = `all ${passages.length} passages`;
  byId("all-passages").closest("label").hidden = passages.length <= 10;
  byId("passages-sub").textContent = size ? aboutPassages() : "This result has no sample passages.";
  drawTags();
  drawPassages();
  if (size) point(rankedPassages()[0].first);
}
watch(["head", "palette", "theme", "allPassages"], afterPaint(drawPassages));
watch(["scheme", "class"], afterPaint(drawTags));
