// The numbers of the page: unpacked once, looked up by (scheme, column, head, class).

const arrays = { f4: Float32Array, i4: Int32Array, i2: Int16Array, u1: Uint8Array };
const byId = (id) => document.getElementById(id);

function half(bits) {
  const sign = bits >> 15 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

function numbers({ dtype, base64 }) {
  const { buffer } = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const found = dtype === "f2" ? Float32Array.from(new Uint16Array(buffer), half) : new arrays[dtype](buffer);
  // half precision holds three digits and a bit; single precision seven
  return Object.assign(found, { digits: dtype === "f2" ? 4 : 7 });
}

// Whatever is packed (interp/report/panels/packing.py), wherever it stands, as arrays of numbers.
function unpacked(part) {
  if (part === null || typeof part !== "object") return part;
  if (typeof part.base64 === "string") return numbers(part);
  if (Array.isArray(part)) return part.map(unpacked);
  return Object.fromEntries(Object.entries(part).map(([name, inner]) => [name, unpacked(inner)]));
}

const data = unpacked(JSON.parse(byId("data").textContent));
const wide = data.heads.length;
const nHeads = data.layers.length * wide;
const headNumbers = Array.from({ length: nHeads }, (_, head) => head);
const metrics = Object.fromEntries(data.metrics.map((metric) => [metric.name, metric]));
const schemes = Object.fromEntries(data.schemes.map((scheme) => [scheme.name, scheme]));

// The columns of a block at a place along its axes, back to the shortest decimals that they were stored as.
function columnsAt({ shape, values }, ...places) {
  return numbersAt(values, places.reduce((sum, place, axis) => sum * shape[axis] + place, 0));
}

function numbersAt(columns, at) {
  return Object.fromEntries(Object.entries(columns).map(([name, column]) => [name, exact(column[at], column.digits)]));
}

// A head is a number on this page, and a layer and a head to the reader.
const layerOf = (head) => Math.floor(head / wide);
const headColumns = (head) => ({ layer: data.layers[layerOf(head)], head: data.heads[head % wide] });
const labelOf = ({ layer, head }) => `L${layer}H${head}`;
const headLabel = (head) => labelOf(headColumns(head));
const byLayer = (list) => data.layers.map((_, layer) => list.slice(layer * wide, (layer + 1) * wide));
// Where the hatching of heads stands in a picture of the grid: below the numbers.
const gridPlaces = (heads) => ({ x: heads.map((head) => head % wide), y: heads.map((head) => layerOf(head) + 0.34) });
const headByLabel = new Map(headNumbers.map((head) => [headLabel(head), head]));

// What a head does to a class of the shown scheme, under the column names of heads.parquet.
function cell(head, klass) {
  const { classes, n_tokens, n_documents } = shownScheme();
  return {
    ...headColumns(head),
    scheme: state.scheme,
    token_class: classes[klass],
    n_tokens: n_tokens[klass],
    n_documents: n_documents[klass],
    ...columnsAt(shownScheme(), head, klass),
  };
}

// The same in the shown metric alone.
const value = (head, klass) => shownScheme().values[state.metric][head * classesOf().length + klass];

// The ends between which 95% of the metric's null lie, where p >= 0.05, if that was measured.
function nullBand(row, metric) {
  const ends = ["low", "high"].map((end) => row[`${metric.name}_null_${end}`]);
  return metric.null && ends.every(Number.isFinite) ? ends : null;
}

// Not beyond its control, and so hatched: the marks of `indistinct` in interp/report/metrics.py.
function indistinct(head, klass) {
  const bit = data.metrics.indexOf(shownMetric());
  return Boolean((shownScheme().hatched[head * classesOf().length + klass] >> bit) & 1);
}

const hasControl = (metric) => `${metric.name}_null_low` in shownScheme().values;
const hatchReason = (metric) => `hatched: not beyond its control, ${metric.control} (p ≥ 0.05)`;

// By what heads and classes are ranked: the distance from no effect of the end of the interval nearest to it, negative if
// the interval holds it; of a metric without interval the distance of the value. What is not beyond its control goes last.
// `strongest_first` of interp/report/metrics.py says the same.
function rankOf(head, klass) {
  const { values } = shownScheme();
  const { name, low, high, centre } = shownMetric();
  const at = head * classesOf().length + klass;
  const size = Math.abs(values[name][at] - centre);
  const nearest = low in values ? Math.max(values[low][at] - centre, centre - values[high][at]) : size;
  return { size, hatched: indistinct(head, klass), strength: Number.isNaN(nearest) ? -Infinity : nearest };
}

const strongestFirst = (a, b) => a.hatched - b.hatched || b.strength - a.strength || b.size - a.size;

const few = (klass) => shownScheme().n_tokens[klass] < data.few;

// Stored precision back to the shortest decimal, for exports.
const exact = (number, digits) => (Number.isFinite(number) ? Number(number.toPrecision(digits)) : NaN);

function signed(number, digits = 2) {
  if (!Number.isFinite(number)) return "–";
  const text = Math.abs(number).toFixed(digits);
  return Number(text) === 0 ? text : (number > 0 ? "+" : "−") + text;
}

function printed(number, metric) {
  if (!Number.isFinite(number)) return "–";
  if (!metric.signed) return `${(100 * number).toFixed(1)}%`;
  return metric.centre ? number.toFixed(2) : signed(number);
}

const signOf = (number) => (Number.isFinite(number) ? (number > 0 ? "+" : "−") : "·");
const percent = (number) => (Number.isFinite(number) ? `${(100 * number).toPrecision(3)}%` : "–");
const interval = (low, high, digits = 2) =>
  Number.isFinite(low) ? `[${signed(low, digits)}, ${signed(high, digits)}]` : "no interval";
const LISTED = 50; // rows of a list of heads
const thousands = new Intl.NumberFormat("en");
const count = (number) => thousands.format(number);
const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
const chance = (q) => (Number.isFinite(q) ? (q < 0.001 ? "< 0.001" : q.toFixed(3)) : "–");
const chanceOf = (name, q) => `${name} ${q < 0.001 ? "" : "= "}${chance(q)}`;

function withInterval(row, metric) {
  const number = printed(row[metric.name], metric);
  return Number.isFinite(row[metric.low]) ? `${number} ${interval(row[metric.low], row[metric.high])}` : number;
}

// Newlines, tabs and direction marks made visible, long tokens cut; the exports keep the token as it is.
const unseen = /[\u0000-\u001f\u007f-\u009f\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;
const names = { "\n": "↵", "\r": "␍", "\t": "⇥" };
const LONGEST = 64;
function visible(token) {
  const shown = token.replace(
    unseen,
    (letter) => names[letter] ?? `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return shown.length > LONGEST ? `${shown.slice(0, LONGEST).toWellFormed()}… (${plural(token.length, "character")})` : shown;
}

// Plotly reads <b>, <br> and &lt; in its labels.
const plain = (text) => visible(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

// An element with text and children; text never becomes markup.
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// A word that does something when it is pressed.
function linkButton(textContent, onclick) {
  return make("button", { type: "button", className: "link", textContent, onclick });
}

// Cells and heads of columns are texts or elements; the first of a row is its name.
function fillTable(table, heads, rows) {
  const cellOf = (content) => (content instanceof Element ? content : make("td", { textContent: content }));
  const body = rows.map(([name, ...others]) =>
    make("tr", {}, make("th", { scope: "row" }, name), ...others.map(cellOf)),
  );
  const headOf = (content) => (content instanceof Element ? content : make("th", { scope: "col", textContent: content }));
  const header = make("tr", {}, ...heads.map(headOf));
  table.replaceChildren(make("thead", {}, header), make("tbody", {}, ...body));
}
