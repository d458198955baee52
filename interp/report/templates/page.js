// Start: fill the controls, draw every panel, listen to the keys.

const panels = ["about", "heads", "classes", "tokens", "position", "passages", "effect", "compare"].map((name) =>
  byId(`panel-${name}`),
);
const selects = {
  head: byId("head"),
  scheme: byId("scheme"),
  class: byId("class"),
  metric: byId("metric"),
  sort: byId("sort"),
};

function say(words) {
  byId("said").textContent = words;
}

function options(select, pairs) {
  select.replaceChildren(...pairs.map(([value, textContent]) => make("option", { value, textContent })));
}

function drawClassChoice() {
  const { classes, n_tokens } = schemes[state.scheme];
  options(selects.class, [
    [OVERVIEW, "strongest of each head"],
    ...classes.map((name, i) => [name, `${visible(name)} (n = ${count(n_tokens[i])})`]),
  ]);
}

function drawControls() {
  for (const [key, select] of Object.entries(selects)) select.value = state[key];
  byId("palette").setAttribute("aria-pressed", state.palette !== initial.palette);
  byId("theme").textContent = `Theme: ${state.theme}`;
  byId("count").value = state.count;
  if (byId("search").value !== state.search) byId("search").value = state.search;
  byId("all-passages").checked = state.allPassages;
  byId("first-token").checked = state.firstToken;
  for (const name of ["place", "scale", "statistic"]) if (byId(name)) byId(name).value = state[name];
  for (const found of document.querySelectorAll(".findings"))
    found.hidden = found.dataset.scheme !== state.scheme;
}

function drawTheme() {
  document.documentElement.dataset.theme = state.theme;
}

function goTo(panel) {
  panel.scrollIntoView({ block: "start" });
  panel.focus({ preventScroll: true });
}

const nextTheme = () => change({ theme: { auto: "light", light: "dark", dark: "auto" }[state.theme] });

function nextClass(step) {
  const choices = [OVERVIEW, ...schemes[state.scheme].classes];
  change({ class: choices[(choices.indexOf(state.class) + step + choices.length) % choices.length] });
  say(state.class === OVERVIEW ? "strongest class of each head" : `class ${state.class}`);
}

async function copyLink() {
  const address = location.href.split("#")[0] + hash();
  const button = byId("copy");
  try {
    await navigator.clipboard.writeText(address);
    button.textContent = "Copied";
  } catch {
    const field = make("input", { value: address, readOnly: true, ariaLabel: "Address of this view" });
    button.replaceWith(field);
    field.addEventListener("blur", () => field.replaceWith(button));
    field.select();
  }
  say("Link copied");
  setTimeout(() => (button.textContent = "Copy link"), 1500);
}

const keys = {
  "?": () => byId("keys").showModal(),
  "[": () => nextClass(-1),
  "]": () => nextClass(1),
  t: nextTheme,
  c: copyLink,
  "/": () => byId("search").focus(),
};
addEventListener("keydown", (event) => {
  if (
    event.ctrlKey ||
    event.metaKey ||
    event.altKey ||
    event.target.closest("input, select, textarea, dialog")
  )
    return;
  const act = panels[event.key] ? () => goTo(panels[event.key]) : keys[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

for (const [key, select] of Object.entries(selects)) {
  select.addEventListener("change", () =>
    change({ [key]: key === "head" ? Number(select.value) : select.value }),
  );
}
byId("palette").addEventListener("click", () =>
  change({ palette: state.palette === "red-blue" ? "orange-purple" : "red-blue" }),
);
byId("theme").addEventListener("click", nextTheme);
byId("copy").addEventListener("click", copyLink);
byId("help").addEventListener("click", keys["?"]);
document
  .querySelector(".skip")
  .addEventListener("click", (event) => event.preventDefault() || goTo(byId("panel-heads")));

// Paper is white: print in the light theme, whatever the screen shows.
let onScreen = "auto";
addEventListener("beforeprint", () => {
  onScreen = state.theme;
  change({ theme: "light" });
  drawTokens();
  drawProfile();
  drawAdjusted();
  drawPassages();
  if (effect) drawEffect();
  if (comparison) drawCompared();
});
addEventListener("afterprint", () => change({ theme: onScreen }));

watchers.unshift(
  { keys: ["theme"], draw: drawTheme },
  { keys: ["scheme"], draw: drawClassChoice },
  { keys: Object.keys(initial), draw: drawControls },
);
systemDark.addEventListener(
  "change",
  () =>
    state.theme === "auto" &&
    watchers
      .filter(({ keys: seen }) => seen.includes("theme"))
      .forEach(({ draw }) => draw(new Set(["theme"]))),
);

drawTheme();
options(
  selects.head,
  Array.from({ length: nHeads }, (_, head) => [head, headLabel(head)]),
);
options(
  selects.scheme,
  data.schemes.map(({ name }) => [name, name]),
);
byId("controls").hidden = document.querySelector("main").hidden = false;
byId("controls").addEventListener("submit", (event) => event.preventDefault());
drawTheme();
drawClassChoice();
drawControls();
buildGrid();
drawGrid();
startBars();
startTokens();
startProfile();
startAdjusted();
startPassages();
startEffect();
startCompare();
restore();
