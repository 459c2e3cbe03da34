// A diagram of lines in SVG with axes, linear or logarithmic. A place on the x axis is read by mouse and finger.
import { countDrawing, h } from "./dom.js";
import { clamp, minusSign, ticks } from "./numbers.js";

const AREA = { left: 46, right: 12, top: 8, bottom: 34 }; // px around the lines
const LEAST = 1e-12; // that stands for zero on a logarithmic scale

// `read(x)` is called with the nearest x that has a value, `forget()` when the pointer leaves, `choose(x)` on a click.
export function makeLines({ label, read, forget, choose }) {
  const svg = h("svg", { role: "application", tabindex: 0, class: "fv-lines", "aria-label": label });
  svg.setAttribute("data-lm-suppress-shortcuts", "true");
  const chart = { root: svg, key: "", width: 0, height: 0, axes: null, lines: [], places: [], marks: h("g") };
  const at = (event) => nearest(chart, event);
  const tell = (event) => {
    const x = at(event);
    if (x !== undefined) read(x);
  };
  svg.addEventListener("pointermove", tell);
  svg.addEventListener("pointerdown", tell);
  svg.addEventListener("pointerleave", (event) => {
    if (event.pointerType !== "touch") forget();
  });
  svg.addEventListener("click", (event) => {
    const x = at(event);
    if (x !== undefined) choose(x);
  });
  return chart;
}

// Draw lines {name, points: [[x, y], ...], class}, a y of null left out, and levels {y, class} across all of them.
// They are built again only if something of them or of the size changed.
export function showLines(chart, { width, height, x, y, lines, levels = [] }) {
  const key = JSON.stringify([width, height, x, y, lines, levels]);
  if (chart.key === key) return;
  const known = lines.map((line) => ({ ...line, points: line.points.filter(([, value]) => shown(y, value)) }));
  Object.assign(chart, { key, width, height, lines: known });
  const values = [...known.flatMap(({ points }) => points.map(([, value]) => value)), ...levels.map((each) => each.y)];
  chart.axes = { x, y: { ...y, ...range(values, y.log) } };
  chart.places = [...new Set(known.flatMap(({ points }) => points.map(([place]) => place)))].sort((a, b) => a - b);
  const { root } = chart;
  for (const [name, value] of Object.entries({ width, height, viewBox: `0 0 ${width} ${height}` })) {
    root.setAttribute(name, value);
  }
  const paths = known.map(({ points, class: own }) => h("path", {
    d: path(chart, points), class: `fv-curve-line ${own}` }));
  const across = levels.map((each) => h("path", {
    d: `M${AREA.left} ${down(chart, each.y)}H${width - AREA.right}`, class: `fv-level-line ${each.class}` }));
  root.replaceChildren(...frame(chart), ...across, ...paths, chart.marks);
  countDrawing(root);
}

const shown = ({ log }, value) => value != null && (!log || value > 0);

// Mark what all lines have at an x; null takes the mark away.
export function markLines(chart, x) {
  if (x == null || !chart.axes || !chart.places.length) return chart.marks.replaceChildren();
  const px = across(chart, clamp(x, chart.axes.x.low, chart.axes.x.high));
  const dots = chart.lines.flatMap(({ points, class: own }) => points.filter(([place]) => place === x).map(
    ([, value]) => h("circle", { cx: px, cy: down(chart, value), r: 3.5, class: `fv-curve-dot ${own}` })));
  chart.marks.replaceChildren(
    h("path", { d: `M${px} ${AREA.top}V${chart.height - AREA.bottom}`, class: "fv-cross" }), ...dots);
}

// The range of an axis: a little more than the values take, or exactly theirs on a logarithmic scale.
function range(values, log) {
  if (!values.length) return log ? { low: 0.1, high: 1 } : { low: 0, high: 1 };
  const low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
  if (log) return low < high ? { low: low / 1.08, high: high * 1.08 } : { low: low / 2, high: high * 2 };
  const room = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
  return { low: low >= 0 ? Math.max(0, low - room) : low - room, high: high + room };
}

function across({ axes: { x }, width }, value) {
  return AREA.left + (value - x.low) / (x.high - x.low || 1) * (width - AREA.left - AREA.right);
}

function down({ axes: { y }, height }, value) {
  const to = (v) => (y.log ? Math.log(Math.max(v, LEAST)) : v);
  return height - AREA.bottom - (to(value) - to(y.low)) / (to(y.high) - to(y.low)) * (height - AREA.top - AREA.bottom);
}

function path(chart, points) {
  if (points.length === 1) return `M${across(chart, points[0][0])} ${down(chart, points[0][1])}h0`; // a dot
  const place = ([x, y]) => `${across(chart, x).toFixed(1)} ${down(chart, y).toFixed(1)}`;
  return points.length ? "M" + points.map(place).join("L") : "";
}

function frame(chart) {
  const { width, height, axes } = chart, bottom = height - AREA.bottom, nodes = [];
  const text = (x, y, words, anchor) => nodes.push(h("text", { x, y, "text-anchor": anchor }, minusSign(words)));
  let lines = `M${AREA.left} ${AREA.top}V${bottom}H${width - AREA.right}`, grid = "";
  for (const value of ticks(axes.x.low, axes.x.high, Math.max(2, Math.floor(width / 70))).filter(Number.isInteger)) {
    lines += `M${across(chart, value)} ${bottom}v4`;
    text(across(chart, value), bottom + 15, value, "middle");
  }
  for (const value of axes.y.log ? logTicks(axes.y.low, axes.y.high) : ticks(axes.y.low, axes.y.high)) {
    grid += `M${AREA.left} ${down(chart, value)}H${width - AREA.right}`;
    text(AREA.left - 6, down(chart, value) + 3, value, "end");
  }
  text((AREA.left + width - AREA.right) / 2, height - 4, axes.x.label, "middle");
  return [h("path", { d: grid, class: "fv-grid" }), h("path", { d: lines, class: "fv-axis" }), ...nodes];
}

// Round numbers of a logarithmic axis: 1, 2 and 5 times powers of ten, or fewer if these are too many.
function logTicks(low, high) {
  const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
  const powers = Array.from({ length: last - first + 1 }, (_, k) => first + k);
  const within = (factors) => powers.flatMap((power) => factors.map((factor) => +(factor * 10 ** power).toPrecision(3)))
    .filter((value) => value >= low && value <= high);
  for (const factors of [[1, 1.5, 2, 3, 5, 7], [1, 2, 5], [1]]) {
    const found = within(factors);
    if (found.length <= 6) return found.length > 1 ? found : ticks(low, high);
  }
  const whole = within([1]), every = Math.ceil(whole.length / 6);
  return whole.filter((_, n) => n % every === 0);
}

// The x nearest to the pointer at which a line has a value.
function nearest(chart, event) {
  if (!chart.places.length) return undefined;
  const box = chart.root.getBoundingClientRect(), px = (event.clientX - box.left) * chart.width / box.width;
  const distance = (x) => Math.abs(across(chart, x) - px);
  return chart.places.reduce((best, x) => (distance(x) < distance(best) ? x : best));
}
