// Colours: a value's distance from "no effect" to a colour that fits the theme and the chosen palette.

const systemDark = matchMedia("(prefers-color-scheme: dark)");
const dark = () => (state.theme === "auto" ? systemDark.matches : state.theme === "dark");

function stops(metric) {
  const set = metric.signed ? data.colours.palettes[state.palette] : data.colours.plain;
  return set[dark() ? "dark" : "light"].map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
}

const plotlyScale = (metric) => stops(metric).map((rgb, i, list) => [i / (list.length - 1), `rgb(${rgb})`]);

// Return a function from a value to a style; the ink is black or white, whichever reads better.
function painter(metric, limit) {
  const colours = stops(metric);
  const last = colours.length - 1;
  return (number) => {
    if (!Number.isFinite(number)) return { backgroundColor: "", color: "" };
    const share = metric.signed ? (number - metric.centre) / limit / 2 + 0.5 : number / limit;
    const place = Math.min(Math.max(share, 0), 1) * last;
    const left = Math.min(Math.floor(place), last - 1);
    const mixed = colours[left].map((part, i) => Math.round(part + (place - left) * (colours[left + 1][i] - part)));
    return { backgroundColor: `rgb(${mixed})`, color: luminance(mixed) > 0.179 ? "#000" : "#fff" };
  };
}

function luminance(rgb) {
  const [red, green, blue] = rgb.map((part) =>
    (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4,
  );
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function legend(box, metric, limit, unit, notes) {
  const ramp = make("span", { className: "ramp", ariaHidden: "true" });
  ramp.style.background = `linear-gradient(to right, ${stops(metric).map((rgb) => `rgb(${rgb})`)})`;
  const low = metric.signed ? `suppressed ${printed(metric.centre - limit, metric)}` : "0%";
  const high = `${metric.signed ? "amplified " : ""}${printed(metric.centre + limit, metric)} ${unit}`;
  box.replaceChildren(make("span", { className: "scale" }, low, ramp, high), ...notes);
}

const note = (kind, text) =>
  make("span", { className: "key" }, make("span", { className: `swatch ${kind}` }), text);
