// The curves: one diagram for each kind of figure, with a legend that says the values at the chosen epoch.
import { menu, setOptions, checkbox, labelled } from "../shared/controls.js";
import { h } from "../shared/dom.js";
import { markLines, makeLines, showLines } from "../shared/lines.js";
import { minusSign } from "../shared/numbers.js";
import { put } from "../shared/widget.js";
import { valueAt } from "./state.js";

const LEAST = 280; // px of a diagram
const HEIGHT = 190; // px
const GAP = 24; // px between diagrams
const COLOURS = 8, DASHES = 4; // styles of lines; then they repeat

export function buildCharts(app, events) {
  const figure = menu([["", "figure"]], (value) => put(app, { figure: value }));
  const loss = menu([["", "all parts"]], (value) => put(app, { loss: value }));
  const log = checkbox((value) => put(app, { log: value }));
  const build = (name, label, ...controls) => {
    const chart = makeLines({ label, ...events });
    const legend = h("div", { className: "fv-legend" });
    const head = h("div", { className: "fv-bar" }, h("b", {}, label), ...controls);
    const root = h("div", { className: "fv-chart fv-chart-" + name }, head, chart.root, legend);
    return { name, chart, legend, root };
  };
  const charts = [
    build("scores", "figures, %", labelled("figure", "", figure)),
    build("losses", "losses", labelled("loss", "", loss), labelled("log", "log", log)),
    build("lr", "learning rate"),
    build("speed", "images per second"),
  ];
  figure.title = "figure";
  loss.title = "part of the loss";
  return { charts, figure, loss, log };
}

export function showCharts(app, s) {
  const { charts, figure, loss, log } = app.ui.charts;
  setOptions(figure, s.scores.length ? s.scores.map((name) => [name, name]) : [["", "no epoch yet"]]);
  figure.value = s.figure || s.scores[0] || "";
  setOptions(loss, [["", "all parts"], ...s.losses.map((name) => [name, name])]);
  Object.assign(loss, { value: s.loss });
  log.checked = s.log;
  const width = widthOf(app.width);
  for (const { name, chart, legend } of charts) {
    const lines = linesOf(s, name);
    showLines(chart, {
      width, height: HEIGHT,
      x: { low: Math.min(1, s.last), high: Math.max(2, s.last), label: "epoch" },
      y: { log: name === "losses" && s.log },
      lines: lines.filter((line) => !line.teacher).map(pointsOf),
      levels: lines.filter((line) => line.teacher != null).map((line) => ({ y: line.teacher, class: line.class })),
    });
    markLines(chart, s.last ? s.at : null);
    showLegend(legend, lines, s.at);
  }
}

// The width of a diagram in px: four in a row, two or one.
function widthOf(room) {
  const width = room || 960, count = [4, 2].find((each) => each * (LEAST + GAP) <= width + GAP) ?? 1;
  return Math.floor((width - GAP * (count - 1)) / count);
}

// The lines of a diagram: {text, run, column, class}. A run has a colour and a part of the loss a kind of dashes;
// with one run, parts have colours. Runs often have one learning rate, so their dashes differ to show both.
function linesOf(s, name) {
  const one = s.runs.length === 1, style = (c, d) => `fv-c${c % COLOURS} fv-d${d % DASHES}`;
  const columns = columnsOf(s, name);
  const lines = s.runs.flatMap((run) => columns.filter((column) => run.columns[column]).map((column) => {
    const at = columns.indexOf(column);
    const text = [!one && run.name, (one || columns.length > 1) && titleOf(column)].filter(Boolean).join(": ");
    return { text, run, column, class: one ? style(at, 0) : style(run.n, name === "lr" ? run.n : at) };
  }));
  if (name !== "scores") return lines;
  return [...lines, ...teachersOf(s, columns[0])];
}

function columnsOf(s, name) {
  if (name === "lr") return ["lr"];
  if (name === "speed") return ["images_per_s"];
  if (name === "losses") return s.loss ? [s.loss] : s.losses;
  return [s.figure || s.scores[0]];
}

const titleOf = (column) => ({ lr: "learning rate", images_per_s: "images/s" })[column] ?? column;

// The teachers' figure of the same name, one line for all runs with an equal one.
function teachersOf(s, column) {
  const found = new Map();
  for (const run of s.runs) {
    const value = run.teacher[column];
    if (value != null) found.set(value, [...(found.get(value) ?? []), run.name]);
  }
  return [...found].map(([teacher, names]) => {
    const whose = found.size > 1 ? ` of ${names.join(", ")}` : "";
    return { text: "teacher" + whose, teacher, class: "fv-teacher" };
  });
}

function pointsOf(line) {
  const { epoch } = line.run.columns, values = line.run.columns[line.column];
  return { class: line.class, points: epoch.map((at, n) => [at, values[n]]) };
}

// Rows of a legend; only what changed is written again.
function showLegend(legend, lines, at) {
  const key = JSON.stringify(lines.map((line) => [line.text, line.class]));
  if (legend.dataset.key !== key) {
    legend.dataset.key = key;
    legend.replaceChildren(...lines.map(buildRow));
  }
  lines.forEach((line, n) => {
    const value = line.teacher ?? valueAt(line.run, line.column, at);
    write(legend.children[n].lastChild, value == null ? "–" : short(value));
  });
}

function buildRow(line) {
  const swatch = h("svg", { width: 24, height: 10, viewBox: "0 0 24 10" },
    h("path", { d: "M1 5H23", class: (line.teacher != null ? "fv-level-line " : "fv-curve-line ") + line.class }));
  return h("div", {}, swatch, h("span", { title: line.text }, line.text), h("span", {}));
}

export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// A number of five digits at most, as a table shows it.
export function short(value) {
  const size = Math.abs(value);
  if (size >= 1000) return value.toLocaleString("en", { maximumFractionDigits: 0 });
  if (size && size < 1e-3) return minusSign(value.toExponential(2));
  return minusSign(+value.toPrecision(4));
}
