// Views of all images at once: confusion, figures by class, calibration, CKA between stages, both embeddings.
import { labelled, menu } from "../shared/controls.js";
import { h } from "../shared/dom.js";
import { onStep } from "../shared/keyboard.js";
import { makeLines, markLines, showLines } from "../shared/lines.js";
import { clamp, num } from "../shared/numbers.js";
import { makeTable, showTable } from "../shared/table.js";
import { put } from "../shared/widget.js";
import { byClass, calibrationOf, confusionOf } from "./counts.js";
import { makeHeat, showHeat } from "./heat.js";
import { makePlot, showPlot } from "./plot.js";
import { called, readState } from "./state.js";
import { embedded, spread } from "./tables.js";
import { aboutImage } from "./wall.js";

const MOST = 16; // classes in the picture of a confusion
const PLOT = { width: 300, height: 250 }, LINES = { width: 380, height: 250 }; // px
const TEXTS = [
  ["confusion", "confusion"], ["classes", "by class"], ["calibration", "calibration"],
  ["CKA", "similarity of stages (CKA)"], ["embedding", "embeddings, side by side"],
];

export function buildViews(app) {
  const choose = menu(TEXTS, (value) => put(app, { view: value }));
  const parts = {
    confusion: buildConfusion(app),
    classes: buildClasses(app),
    calibration: buildCalibration(app),
    CKA: buildSimilarity(app),
    embedding: buildEmbeddings(app),
  };
  const hint = h("p", { className: "fv-hint" });
  const bodies = Object.values(parts).map((part) => part.root);
  const bar = h("div", { className: "fv-bar" }, labelled("all", "all images:", choose));
  return { choose, parts, hint, root: h("div", { className: "fv-views" }, bar, ...bodies, hint) };
}

// Draw the chosen view and say in words what it shows.
export function showViews(app, s) {
  const { choose, parts, hint } = app.ui.views;
  choose.value = s.view;
  for (const [name, part] of Object.entries(parts)) part.root.hidden = name !== s.view;
  const known = app.facts.size;
  if (!known) return hint.replaceChildren("No image has been shown to the networks yet.");
  const show = { confusion, classes, calibration, CKA: similarity, embedding }[s.view];
  hint.replaceChildren(show(app, s, parts[s.view], `${known} ${known === 1 ? "image" : "images"}`));
}

const truthOf = (app, s) => (app.meta.labelled ? "true class" : `${s.reference} says`);

function buildConfusion(app) {
  const part = { shown: null };
  const tell = (i, j) => {
    const { classes, counts } = part.shown, s = readState(app), [down, across] = [classes[i], classes[j]];
    app.tell(`${truthOf(app, s)} ${called(app, down)}, ${s.other} says ${called(app, across)}: ${counts[i][j]}`);
  };
  const choose = (i, j) => {
    const s = readState(app), [down, across] = [part.shown.classes[i], part.shown.classes[j]];
    const again = s.class === down && s.answer === across;
    put(app, again ? { only_class: -1, only_answer: -1 } : { only_class: down, only_answer: across });
  };
  const label = "confusion; arrow keys read, Enter filters the wall";
  part.heat = makeHeat({ label, tell, forget: () => app.forget(), choose });
  part.root = h("div", { className: "fv-confusion" }, part.heat.root);
  return part;
}

function confusion(app, s, part, images) {
  const found = part.shown = confusionOf(app, s, MOST), { classes, counts, left } = found;
  const unlike = counts.flatMap((row, i) => row.filter((_, j) => i !== j)), most = Math.max(1, ...unlike);
  const names = classes.map((label) => called(app, label));
  const grid = {
    rows: names, columns: names, down: truthOf(app, s), across: `${s.other} says`,
    text: (i, j) => counts[i][j] || "",
    strength: (i, j) => counts[i][j] / most,
  };
  const chosen = [classes.indexOf(s.class), classes.indexOf(s.answer)];
  showHeat(part.heat, JSON.stringify([names, counts, s.other]), grid, Math.min(...chosen) < 0 ? null : chosen);
  const rest = left ? ` The ${classes.length} classes that are confused most; ${left} others are left out.` : "";
  return `${images}. A click leaves those of a cell on the wall, a second one takes all back.${rest}`;
}

function buildClasses(app) {
  const share = (value) => `${num(100 * value, 0)} %`, { labelled: known, networks, reference } = app.meta;
  const columns = [
    { name: known ? "true class" : `${networks[reference]} says`, title: "", write: (value) => value },
    { name: "images", title: "", write: (value) => value },
    { name: "same answer", title: "share of the images that both networks answer alike", write: share },
    ...known ? [0, 1].map(() => ({ name: "", title: "share that this network has right", write: share })) : [],
    ...[0, 1].map(() => ({ name: "", title: "mean probability of its answer", write: (value) => num(value) })),
  ];
  const choose = (row) => {
    const label = row.at(-1), again = readState(app).class === label;
    put(app, { only_class: again ? -1 : label, only_answer: -1 });
  };
  const table = makeTable(columns, { label: "classes; arrow keys filter the wall", choose, sort: [2, 1] });
  return { table, root: h("div", { className: "fv-classes" }, table.root) };
}

function classes(app, s, { table }, images) {
  const names = [s.reference, s.other], { labelled: known } = app.meta;
  const heads = [...known ? names.map((name) => `${name} right`) : [], ...names.map((name) => `${name} p`)];
  heads.forEach((name, k) => Object.assign(table.columns[3 + k], { name }));
  const rows = byClass(app, s).map(({ label, images: count, same, right, sure }) =>
    [called(app, label), count, same, ...known ? right : [], ...sure, label]);
  showTable(table, rows, [s.other, app.facts.size], (row) => row.at(-1) === s.class);
  return `${images}. A click leaves those of a class on the wall.`;
}

function buildCalibration(app) {
  const part = {};
  const places = () => part.lines.flatMap(({ bins }) => bins.map(({ sure }) => sure)).sort((a, b) => a - b);
  const read = (wanted) => {
    const x = places().reduce((best, sure) => (Math.abs(sure - wanted) < Math.abs(best - wanted) ? sure : best));
    const words = ({ sure, right, images }) =>
      `sure ${num(sure)} on average, right in ${num(100 * right, 0)} % of ${images}`;
    const there = part.lines.flatMap(({ name, bins }) =>
      bins.filter(({ sure }) => sure === x).map((bin) => `${name}: ${words(bin)}`));
    app.tell(there.join("; "));
    markLines(part.chart, x);
  };
  const forget = () => {
    app.forget();
    markLines(part.chart, null);
  };
  part.chart = makeLines({ label: "calibration; arrow keys read", read, forget, choose: () => {} });
  onStep(part.chart.root, ([i, j]) => {
    const all = places();
    part.at = clamp((part.at ?? -1) + (j || -i), 0, all.length - 1);
    read(all[part.at]);
  });
  part.legend = h("div", { className: "fv-legend" });
  part.root = h("div", { className: "fv-calibration" }, part.chart.root, part.legend);
  return part;
}

function calibration(app, s, part, images) {
  part.lines = [s.reference, s.other].filter((name, k, all) => all.indexOf(name) === k)
    .map((name) => ({ name, ...calibrationOf(app, s, name) }));
  const lines = part.lines.map(({ bins }, k) => ({
    points: bins.map(({ sure, right }) => [sure, right]), class: k ? "fv-two" : "fv-one" }));
  showLines(part.chart, {
    ...LINES, x: { low: 0, high: 1, label: "probability of the answer" }, y: {},
    lines: [{ points: [[0, 0], [1, 1]], class: "fv-even" }, ...lines],
  });
  part.legend.replaceChildren(...part.lines.map(({ name, error }, k) => h("div", {},
    h("i", { className: k ? "fv-two" : "fv-one" }, "■"), ` ${name}: expected calibration error ${num(error, 3)}`)));
  const right = app.meta.labelled ? "is right" : `answers as ${s.reference}`;
  return `${images}, in ten bins of confidence: how often a network ${right} when it is so sure.`;
}

function buildSimilarity(app) {
  const part = { shown: null };
  const tell = (i, j) => {
    const { stages, values } = part.shown, s = readState(app), value = values[i][j];
    app.tell(`${s.reference} ${stages[0][i]}, ${s.other} ${stages[1][j]}: CKA ${value == null ? "–" : num(value)}`);
  };
  part.heat = makeHeat({ label: "CKA between stages; arrow keys read", tell, forget: () => app.forget() });
  part.root = h("div", { className: "fv-cka" }, part.heat.root);
  return part;
}

function similarity(app, s, part) {
  const found = part.shown = app.similar.get(s.other);
  part.heat.root.toggleAttribute("hidden", !found);
  if (!found) return app.meta.alone ? "This page does not hold this figure." : "computing …";
  const { stages, values, count } = found;
  const grid = {
    rows: stages[0], columns: stages[1], down: s.reference, across: s.other,
    text: (i, j) => (values[i][j] == null ? "–" : num(values[i][j])),
    strength: (i, j) => values[i][j],
  };
  showHeat(part.heat, JSON.stringify([s.other, values]), grid, null);
  return `Linear CKA of the features on ${count} images: 1 for equal up to rotation and scale, 0 by chance.`;
}

function buildEmbeddings(app) {
  const events = {
    tell: ({ id }) => app.tell(aboutImage(app, readState(app), id)),
    forget: () => app.forget(),
    choose: ({ id }) => put(app, { image: id }),
  };
  const build = () => makePlot({ ...PLOT, label: "embedding; arrow keys choose an image", ...events });
  const plots = [build(), build()], titles = plots.map(() => h("b"));
  const sides = plots.map((plot, k) => h("div", {}, titles[k], plot.root));
  return { plots, titles, root: h("div", { className: "fv-row fv-embeddings" }, ...sides) };
}

// Both embeddings on the same axes: the second one is turned towards the first.
function embedding(app, s, { plots, titles }, images) {
  const names = [s.reference, s.other], points = names.map((name) => embedded(app, s, name)), all = points.flat();
  const axes = { x: spread(all, "x", "first principal component"), y: spread(all, "y", "second principal component") };
  names.forEach((name, k) => {
    showPlot(plots[k], JSON.stringify([name, app.pointsOf, app.facts.size, s.list]), axes, points[k], s.image);
    titles[k].textContent = name;
  });
  if (!app.points) return app.meta.alone ? "This page does not hold this figure." : "computing …";
  return `${images}. The embedding of ${s.other} is turned so that it lies nearest to that of ${s.reference}.`;
}
