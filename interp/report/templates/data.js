// The numbers of the page: unpacked once, looked up by (scheme, column, head, class).

const data = JSON.parse(document.getElementById("data").textContent);
const arrays = { f4: Float32Array, i4: Int32Array, i2: Int16Array };
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
  return dtype === "f2" ? Float32Array.from(new Uint16Array(buffer), half) : new arrays[dtype](buffer);
}

function unpacked(record) {
  return Object.fromEntries(Object.entries(record).map(([name, packed]) => [name, numbers(packed)]));
}

const nHeads = data.layers.length * data.heads.length;
const metrics = Object.fromEntries(data.metrics.map((metric) => [metric.name, metric]));
const schemes = Object.fromEntries(
  data.schemes.map((scheme) => [scheme.name, { ...scheme, values: unpacked(scheme.values) }]),
);

// A head is a number on this page, and a layer and a head to the reader.
function headColumns(head) {
  return {
    layer: data.layers[Math.floor(head / data.heads.length)],
    head: data.heads[head % data.heads.length],
  };
}

function headLabel(number) {
  const { layer, head } = headColumns(number);
  return `L${layer}H${head}`;
}

const headByLabel = new Map(Array.from({ length: nHeads }, (_, head) => [headLabel(head), head]));

// What a head does to a class, under the column names of heads.parquet.
function cell(scheme, head, klass) {
  const { classes, n_tokens, n_documents, values } = schemes[scheme];
  const at = head * classes.length + klass;
  return {
    ...headColumns(head),
    scheme,
    token_class: classes[klass],
    n_tokens: n_tokens[klass],
    n_documents: n_documents[klass],
    ...Object.fromEntries(Object.entries(values).map(([column, block]) => [column, exact(block[at], 7)])),
  };
}

function value(scheme, head, klass, column) {
  const { classes, values } = schemes[scheme];
  return values[column][head * classes.length + klass];
}

// The one place that decides what is hatched.
function indistinct(scheme, head, klass) {
  return !(value(scheme, head, klass, "ci_low") > 0 || value(scheme, head, klass, "ci_high") < 0);
}

const few = (scheme, klass) => schemes[scheme].n_tokens[klass] < data.few;

// Stored precision back to the shortest decimal, for exports.
function exact(number, digits) {
  return Number.isFinite(number) ? Number(number.toPrecision(digits)) : NaN;
}

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

const percent = (number) => (Number.isFinite(number) ? `${(100 * number).toPrecision(3)}%` : "–");
const interval = (low, high) => (Number.isFinite(low) ? `[${signed(low)}, ${signed(high)}]` : "no interval");
const count = (number) => number.toLocaleString("en");
const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

// Newlines, tabs and direction marks made visible; the exports keep the token as it is.
const unseen = /[\u0000-\u001f\u007f-\u009f\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;
const names = { "\n": "↵", "\r": "␍", "\t": "⇥" };
function visible(token) {
  return token.replace(
    unseen,
    (letter) => names[letter] ?? `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

// Plotly reads <b>, <br> and &lt; in its labels.
const plain = (text) => visible(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

// An element with text and children; text never becomes markup.
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function headerRow(texts) {
  return make(
    "thead",
    {},
    make("tr", {}, ...texts.map((textContent) => make("th", { scope: "col", textContent }))),
  );
}
