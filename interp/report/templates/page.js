// Start: draw every panel, listen to the controls and keys, and show what the address names.

const sections = [byId("panel-about"), ...document.querySelectorAll("main > .panel")];

// From the section that has the focus.
function step(by) {
  const here = sections.findIndex((section) => section.contains(document.activeElement));
  goTo(sections[Math.min(Math.max(here + by, 0), sections.length - 1)]);
}

const keys = Object.assign(
  {
    "?": () => byId("keys").showModal(),
    "[": () => nextClass(-1),
    "]": () => nextClass(1),
    j: () => step(1),
    k: () => step(-1),
    t: nextTheme,
    c: copyLink,
  },
  ...panels.map((one) => one.keys),
);
addEventListener("keydown", (event) => {
  const elsewhere = event.target.closest("input, select, textarea, dialog");
  if (event.ctrlKey || event.metaKey || event.altKey || elsewhere) return;
  const act = sections[event.key] ? () => goTo(sections[event.key]) : keys[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

byId("palette").addEventListener("click", () =>
  change({ palette: state.palette === initial.palette ? "orange-purple" : initial.palette }),
);
byId("theme").addEventListener("click", nextTheme);
byId("copy").addEventListener("click", copyLink);
byId("help").addEventListener("click", keys["?"]);
byId("controls").addEventListener("submit", (event) => event.preventDefault());
document
  .querySelector(".skip")
  ?.addEventListener("click", (event) => event.preventDefault() || goTo(sections[1]));

// Paper is white: print in the light theme, whatever the screen shows.
const redrawAll = () => panels.forEach((one) => one.redraw());
let onScreen = "auto";
addEventListener("beforeprint", () => {
  onScreen = state.theme;
  change({ theme: "light" });
  redrawAll();
});
addEventListener("afterprint", () => change({ theme: onScreen }));
systemDark.addEventListener("change", () => state.theme === "auto" && redraw(new Set(["theme"])));

byId("controls").hidden = document.querySelector("main").hidden = false;
drawTheme();
drawClassChoice();
drawControls();
listenToControls();
restore();
redrawAll();
