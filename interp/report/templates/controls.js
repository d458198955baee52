// The choices of the whole page, and the inputs of every panel: they show the state and change it.

const say = (words) => (byId("said").textContent = words);

function options(select, pairs) {
  select.replaceChildren(...pairs.map(([value, textContent]) => make("option", { value, textContent })));
}

const inputs = () => Object.entries(fields).flatMap(([key, { input }]) => (input ? [[key, byId(input)]] : []));

function drawControls() {
  for (const [key, input] of inputs()) {
    if (input.type === "checkbox") input.checked = state[key];
    else if (input.value !== String(state[key])) input.value = state[key];
  }
  byId("palette").setAttribute("aria-pressed", state.palette !== initial.palette);
  byId("theme").textContent = `Theme: ${state.theme}`;
  for (const found of document.querySelectorAll(".findings")) found.hidden = found.dataset.scheme !== state.scheme;
}

function listenToControls() {
  for (const [key, input] of inputs()) {
    input.addEventListener("input", () => {
      if (input.type === "checkbox") change({ [key]: input.checked });
      else if (input.type !== "number" || input.value) change({ [key]: readers[typeof initial[key]](input.value) });
    });
  }
}

// What is scrolled to stands below the bar of choices, however many lines it has.
new ResizeObserver(([{ target }]) =>
  document.documentElement.style.setProperty("--bar", `${target.offsetHeight}px`),
).observe(byId("controls"));

const drawTheme = () => (document.documentElement.dataset.theme = state.theme);

function drawClassChoice() {
  const { classes, n_tokens } = shownScheme();
  options(byId("class"), [
    [OVERVIEW, "strongest of each head"],
    ...classes.map((_, klass) => [classes[klass], `${classWords(klass)} · ${count(n_tokens[klass])}`]),
  ]);
}

// "ADP, prepositions"
function classWords(klass) {
  const { classes, words } = shownScheme();
  return [visible(classes[klass]), ...(words[klass] ? [words[klass]] : [])].join(", ");
}

const nextTheme = () => change({ theme: { auto: "light", light: "dark", dark: "auto" }[state.theme] });

function nextClass(step) {
  const choices = fields.class.among();
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

function goTo(section) {
  section.scrollIntoView({ block: "start" });
  section.focus({ preventScroll: true });
}

options(byId("head"), headNumbers.map((head) => [head, headLabel(head)]));
options(byId("scheme"), data.schemes.map(({ name }) => [name, name]));
watch(["theme"], drawTheme);
watch(["scheme"], drawClassChoice);
watch(null, drawControls);
