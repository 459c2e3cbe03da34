// Figures of the chosen image, the scatter of all images, and the list of where the networks disagree.
import { h } from "../shared/dom.js";
import { num } from "../shared/numbers.js";
import { showTable } from "../shared/table.js";
import { grown, overlap } from "./maps.js";
import { showPlot } from "./plot.js";
import { called, figureOf, isGood, mapsOf } from "./state.js";

const MOST = 200; // rows of the list
const TIPS = {
  "rank r": "rank correlation of the map with that of the reference, over the pixels: 1 for the same order",
  IoU: "overlap of the top pixels with those of the reference: intersection over union",
  inside: "share of the map inside the true mask",
  pointing: "whether the largest value is inside the true mask",
  insertion: "mean probability of the class while the pixels are shown, the strongest evidence first: high is good",
  deletion: "the same while they are hidden: low is good",
};

// A row for each network: figures of the chosen image, then in brackets the mean over all images whose maps are known.
export function showFigures(app, s) {
  const columns = columnsOf(app, s), head = columns.map((name) => h("th", { title: TIPS[name] ?? "" }, name));
  const rowOf = (name) => h("tr", {}, ...columns.map((column) => h("td", {}, cellOf(app, s, name, column))));
  const rows = s.names.map(rowOf);
  const known = app.meta.images.filter((image) => mapsOf(app, s.key, image)).length;
  app.ui.figures.replaceChildren(
    h("table", {}, h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...rows)),
    h("p", { className: "fv-hint" }, `In brackets: mean of ${known} ${known === 1 ? "image" : "images"}.`));
}

function columnsOf(app, s) {
  const more = [...(app.meta.masks ? ["inside", "pointing"] : []), ...(s.areas ? ["insertion", "deletion"] : [])];
  return ["network", "rank r", `IoU, top ${num(100 * s.top, 0)} %`, ...more];
}

function cellOf(app, s, name, column) {
  if (column === "network") return name + (name === s.reference ? ", the reference" : "");
  const map = s.shown[name];
  if (map.refused) return "–";
  if (column === "insertion" || column === "deletion") {
    const found = app.areas.get(`${s.key}|${s.image}|${name}`);
    return found ? written(found[column]) : "…";
  }
  if (column.startsWith("IoU")) {
    const usual = s.top === app.meta.top; // the share that the kernel's figures are about
    return withMean(ownOverlap(app, s, map), usual ? means(app, s, name, "IoU") : null);
  }
  const figure = { "rank r": "rank correlation", inside: "energy inside", pointing: "pointing" }[column];
  return withMean(map.figures[figure], means(app, s, name, figure));
}

function ownOverlap(app, s, map) {
  const first = s.shown[s.reference];
  return first.refused ? null : overlap(grown(map, app.meta.size, s.top), grown(first, app.meta.size, s.top));
}

const written = (value) => (value == null ? "–" : num(value));
const withMean = (value, mean) => written(value) + (mean == null ? "" : ` (${num(mean)})`);

// Mean of a figure of a network over the images that have one.
function means(app, s, name, figure) {
  const values = app.meta.images.map((image) => mapsOf(app, s.key, image)?.[name]?.figures?.[figure])
    .filter((value) => value != null);
  return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
}

// Agreement against confidence, the images in the plane of an embedding, or the confidence of both networks.
export function showScatter(app, s) {
  const points = { embedding: embedded, confidences: bothConfident, confidence: confident }[s.plot](app, s);
  const { x, y } = axesOf(s, points);
  const { key: choice, plot, of, other, figure, list } = s;
  const key = JSON.stringify([choice, plot, of, other, figure, list.length, list[0], points.length, app.version]);
  showPlot(app.ui.plot, key, { x, y }, points, s.image);
  app.ui.none.hidden = points.length > 0;
}

function axesOf({ plot, figure, reference, other, of }, points) {
  const sure = (name) => ({ low: 0, high: 1, label: `p that ${name} gives its answer` });
  if (plot === "confidences") return { x: sure(reference), y: sure(other) };
  if (plot === "confidence") {
    const low = figure === "IoU" ? 0 : Math.min(0, ...points.map((point) => point.y));
    return { x: sure(of), y: { low, high: 1, label: `${figure}, ${other}` } };
  }
  return {
    x: spread(points, "x", "first principal component"), y: spread(points, "y", "second principal component"),
  };
}

export function spread(points, axis, label) {
  const values = points.map((point) => point[axis]);
  return { low: Math.min(-1, ...values), high: Math.max(1, ...values), label };
}

function confident(app, s) {
  return s.list.flatMap((image) => {
    const facts = app.facts.get(image), y = figureOf(app, s, image);
    return facts && y != null ? [{ id: image, x: facts.p[s.of], y, kind: kindOf(s, facts) }] : [];
  });
}

// The confidence of both networks: a ring where their answers differ.
function bothConfident(app, s) {
  return s.list.flatMap((image) => {
    const facts = app.facts.get(image);
    if (!facts) return [];
    const same = facts.predicted[s.reference] === facts.predicted[s.other];
    return [{ id: image, x: facts.p[s.reference], y: facts.p[s.other], kind: same ? "good" : "bad" }];
  });
}

export function embedded(app, s, name = s.of) {
  const points = app.points?.[name];
  if (!points) return [];
  return s.list.flatMap((image) => {
    const facts = app.facts.get(image), [x, y] = points.subarray(2 * image, 2 * image + 2);
    return facts && !Number.isNaN(x) ? [{ id: image, x, y, kind: kindOf(s, facts, name) }] : [];
  });
}

const kindOf = (s, facts, name = s.of) => (isGood(s, facts, name) ? "good" : "bad");

// The images of the list, those first on which the maps agree least.
export function showList(app, s) {
  const rows = s.list.flatMap((image) => {
    const facts = app.facts.get(image), figure = figureOf(app, s, image);
    if (!facts || figure == null) return [];
    const truth = facts.label == null ? "" : called(app, facts.label);
    const says = [s.reference, s.other].map((name) => called(app, facts.predicted[name]));
    return [[image, figure, truth, ...says]];
  });
  rows.sort((a, b) => a[1] - b[1]);
  const key = [s.key, s.other, s.figure, app.version, s.list.length, s.list[0]];
  showTable(app.ui.list, rows.slice(0, MOST), key, ([image]) => image === s.image);
}
