// The wall: thumbnails of the images in the list, a page at a time, on one canvas.
import { countDrawing, h } from "../shared/dom.js";
import { onStep } from "../shared/keyboard.js";
import { clamp, num } from "../shared/numbers.js";
import { called, figureOf, isGood, readState } from "./state.js";

const CELL = 64, STRIP = 6, GAP = 4; // px: a thumbnail, the strip of answers below it, the space between two
const SIDE = CELL + GAP, TALL = CELL + STRIP + GAP;

export function buildWall() {
  const canvas = h("canvas", { tabIndex: 0, className: "fv-wall" });
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", "images; arrow keys choose");
  return canvas;
}

// Columns and rows that fit into a width; `rows` may be given.
export function layWall(app, width, rows) {
  app.columns = Math.max(2, Math.floor(width / SIDE));
  app.cells = app.columns * clamp(Math.ceil(app.meta.images.length / app.columns), 1, rows);
}

export function drawWall(app, s) {
  const { wall } = app.ui, ratio = window.devicePixelRatio || 1, rows = app.cells / app.columns;
  const width = app.columns * SIDE, height = rows * TALL;
  Object.assign(wall, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
  Object.assign(wall.style, { width: width + "px", height: height + "px" });
  const context = wall.getContext("2d"), colours = coloursOf(app.ui);
  context.scale(ratio, ratio);
  s.list.slice(app.first, app.first + app.cells).forEach((image, n) => {
    const x = (n % app.columns) * SIDE + GAP / 2, y = Math.floor(n / app.columns) * TALL + GAP / 2;
    drawCell(app, s, context, image, x, y, colours);
    if (image === s.image) frame(context, x, y, colours.ink);
  });
  wall.setAttribute("aria-label", `${s.list.length} images; arrow keys choose. ${aboutImage(app, s, s.image)}`);
  countDrawing(wall);
}

// The colours of the legend, as the present theme has them.
function coloursOf({ root, legend }) {
  const of = (node) => getComputedStyle(node).color;
  return { ink: of(root), good: of(legend.good), bad: of(legend.bad) };
}

// What the strips below the thumbnails mean.
export function buildLegend({ labelled, networks }) {
  const good = h("i", { className: "fv-good" }, "■"), bad = h("i", { className: "fv-bad" }, "■");
  const words = labelled ? ["right", "wrong"] : ["answers as the reference", "another answer"];
  const parts = [`${networks.join(", ")}: `, good, ` ${words[0]} `, bad, ` ${words[1]}`];
  const root = h("div", { className: "fv-legend" }, ...parts);
  return { root, good, bad };
}

function frame(context, x, y, ink) {
  Object.assign(context, { lineWidth: 3, strokeStyle: ink });
  context.strokeRect(x - 0.5, y - 0.5, CELL + 1, CELL + STRIP + 1);
}

// A thumbnail, and below it for each network whether it is right; without labels, whether it answers as the reference.
function drawCell(app, s, context, image, x, y, colours) {
  const bitmap = app.thumbs.get(image), facts = app.facts.get(image);
  context.fillStyle = "#8883";
  context.fillRect(x, y, CELL, CELL);
  if (bitmap) {
    const scale = CELL / Math.max(bitmap.width, bitmap.height), w = bitmap.width * scale, t = bitmap.height * scale;
    context.imageSmoothingEnabled = scale < 2;
    context.drawImage(bitmap, x + (CELL - w) / 2, y + (CELL - t) / 2, w, t);
  }
  if (!facts) return;
  const part = CELL / s.names.length;
  s.names.forEach((name, k) => {
    context.fillStyle = isGood(s, facts, name) ? colours.good : colours.bad;
    context.fillRect(x + k * part, y + CELL + 1, part - 1, STRIP - 1);
  });
}

// Keys, clicks and the pointer. `choose(image)` is called, and `tell(words)`, `forget()` for the image under it.
export function connectWall(app, { choose, tell, forget }) {
  const { wall } = app.ui;
  onStep(wall, ([i, j], event) => {
    const s = readState(app), page = event.key.startsWith("Page");
    step(s, j + (page ? Math.sign(i) * app.cells : i * app.columns), choose);
  });
  wall.addEventListener("keydown", (event) => {
    const ends = { Home: -Infinity, End: Infinity };
    if (!(event.key in ends)) return;
    event.preventDefault();
    step(readState(app), ends[event.key], choose);
  });
  wall.onclick = (event) => {
    const image = imageAt(app, event);
    if (image != null) choose(image);
  };
  wall.onpointermove = (event) => {
    const image = imageAt(app, event);
    if (image == null) forget();
    else tell(aboutImage(app, readState(app), image));
  };
  wall.onpointerleave = forget;
}

// Choose another image of the list; the nearest one if the chosen image is not in it.
function step(s, by, choose) {
  if (!s.list.length) return;
  const now = s.list.indexOf(s.image), last = s.list.length - 1;
  choose(s.list[now < 0 ? 0 : clamp(now + by, 0, last)]);
}

function imageAt(app, event) {
  const column = Math.floor(event.offsetX / SIDE), row = Math.floor(event.offsetY / TALL);
  if (column >= app.columns) return null;
  return readState(app).list[app.first + row * app.columns + column];
}

// Turn to the page of the wall on which the chosen image is.
export function turnTo(app, s) {
  const at = s.list.indexOf(s.image), last = Math.max(0, s.list.length - 1);
  const wanted = at >= 0 && app.followed !== s.image ? at : app.first;
  app.followed = s.image;
  app.first = Math.floor(clamp(wanted, 0, last) / app.cells) * app.cells;
}

// An image in one line: its class, what each network says, how far they agree.
export function aboutImage(app, s, image) {
  const facts = app.facts.get(image);
  if (!facts) return `image ${image}: not shown to the networks yet`;
  const truth = facts.label == null ? "" : ` is ${called(app, facts.label)}`;
  const says = s.names.map((name) => `${name} says ${called(app, facts.predicted[name])} (p ${num(facts.p[name])})`);
  const figure = s.other === s.reference ? null : figureOf(app, s, image);
  const agree = figure == null ? "" : `; ${s.figure} of ${s.other} ${num(figure)}`;
  return `image ${image}${truth}: ${says.join(", ")}${agree}`;
}
