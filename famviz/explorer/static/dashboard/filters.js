// Filters as they form: for each level of each run the picture at the chosen epoch, and small ones over the training.
import { paint } from "../shared/colour.js";
import { h } from "../shared/dom.js";
import { onRead, onReadKeys, pixelAt } from "../shared/hover.js";
import { onStep } from "../shared/keyboard.js";
import { clamp, num } from "../shared/numbers.js";
import { drawPanel, panel } from "../shared/panel.js";
import { put } from "../shared/widget.js";
import { pictureKey } from "./state.js";

const BOX = 128; // px of the large picture
const CELL = { few: 104, many: 60 }; // px of a small picture: in one row if there are few, else in two
const ROOM = { large: 184, gap: 6 }; // px that the large picture takes, and between small ones
const AT_ONCE = 8; // epochs in one question
const DEEPEST = -60, SHALLOWEST = -5; // dB, of the lower end of the colours
const WEAKEST = 0.02; // share of all values that may lie below it

// Rows of the page as the runs have levels: they are built again only if these change.
export function layFilters(app, s) {
  const { ui } = app, key = JSON.stringify(s.runs.map(({ name, levels }) => [name, levels]));
  if (ui.filtersKey === key) return;
  ui.filtersKey = key;
  const all = s.runs.flatMap((run) => run.levels.map(({ index, title }, level) => ({ run, level, index, title })));
  const indices = [...new Set(all.map(({ index }) => index))].sort((a, b) => a - b);
  ui.rows = [];
  const groups = indices.map((index) => {
    const having = all.filter((each) => each.index === index), titles = new Set(having.map(({ title }) => title));
    const rows = having.map(({ run, level }) => buildRow(app, run, level, s.runs.length > 1));
    ui.rows.push(...rows);
    const title = h("b", {}, [...titles].join(" / ")); // which may differ between runs
    return h("div", { className: "fv-group" }, title, ...rows.map((row) => row.root));
  });
  ui.filters.replaceChildren(...groups);
  ui.filtersHead.hidden = !indices.length;
}

function buildRow(app, run, level, named) {
  const { index } = run.levels[level];
  const row = { run: run.n, level, index, name: named ? run.name : "", large: panel("now"), cells: [], keys: "" };
  row.strip = h("div", { className: "fv-strip", tabIndex: 0 });
  row.strip.setAttribute("data-lm-suppress-shortcuts", "true");
  row.strip.setAttribute("role", "application");
  row.strip.setAttribute("aria-label", "epochs; arrow keys choose");
  onStep(row.strip, ([i, j]) => stepEpoch(app, row, i || j));
  const read = (i, j) => readPixel(app, row, row.large.epoch, i, j);
  onRead(row.large, read, app.forget);
  onReadKeys(row.large, read, app.forget);
  const name = h("div", { className: "fv-run" }, row.name);
  const beside = h("div", { className: "fv-beside" }, name, row.strip);
  row.root = h("div", { className: "fv-level-row" }, row.large.root, beside);
  return row;
}

function stepEpoch(app, row, step) {
  const now = row.cells.findIndex((cell) => cell.on), at = clamp(now + step, 0, row.cells.length - 1);
  if (row.cells[at]) put(app, { epoch: row.cells[at].epoch });
}

// Draw what has come. Returns the epochs that are shown, by run, so that missing ones can be asked for.
export function showFilters(app, s) {
  const wanted = new Map();
  for (const row of app.ui.rows ?? []) {
    const run = s.runs[row.run], now = newest(run.saved, s.at);
    const { count, side } = cellsOf(app.width, run.saved.length), epochs = evenly(run.saved, count);
    layCells(app, row, epochs);
    const look = row.look = lookOf(app, s, row.index);
    row.large.epoch = now;
    showLarge(app, s, row, now, look);
    for (const cell of row.cells) showCell(app, run, row, cell, { look, side, chosen: nearest(epochs, now) });
    wanted.set(row.run, [...new Set([now, ...(wanted.get(row.run) ?? []), ...epochs])].filter(Boolean));
  }
  return wanted;
}

// How many small pictures have room, and how large they are.
function cellsOf(width, saved) {
  const room = (width || 960) - ROOM.large, fitting = (side) => Math.max(2, Math.floor(room / (side + ROOM.gap)));
  if (saved <= fitting(CELL.few)) return { count: saved, side: CELL.few };
  return { count: 2 * fitting(CELL.many), side: CELL.many };
}

// Of the saved epochs as many as wanted, evenly spaced, the first and the last among them.
export function evenly(saved, count) {
  if (saved.length <= count) return saved;
  return Array.from({ length: count }, (_, k) => saved[Math.round(k * (saved.length - 1) / (count - 1))]);
}

// The last saved epoch that is not after `at`, else the first one; undefined if there is none.
const newest = (saved, at) => saved.findLast((epoch) => epoch <= at) ?? saved[0];
const nearest = (epochs, at) => epochs.reduce((a, b) => (Math.abs(b - at) < Math.abs(a - at) ? b : a), epochs[0]);

function layCells(app, row, epochs) {
  const keys = String(epochs);
  if (row.keys === keys) return;
  row.keys = keys;
  const old = new Map(row.cells.map((cell) => [cell.epoch, cell]));
  row.cells = epochs.map((epoch) => old.get(epoch) ?? buildCell(app, row, epoch));
  row.strip.replaceChildren(...row.cells.map((cell) => cell.root));
}

function buildCell(app, row, epoch) {
  const canvas = h("canvas", { tabIndex: -1 }), cell = { epoch, canvas, drawn: "", on: false };
  canvas.onpointermove = canvas.onpointerdown = (event) => readPixel(app, row, epoch, ...pixelAt(event, canvas));
  canvas.onpointerleave = (event) => event.pointerType !== "touch" && app.forget();
  canvas.onclick = () => put(app, { epoch });
  cell.root = h("figure", { className: "fv-cell" }, canvas, h("figcaption", {}, String(epoch)));
  return cell;
}

// The colours of a level, one scale for all epochs and runs: 0 dB is the largest amplitude that is shown.
function lookOf(app, s, index) {
  if (app.looks.count !== app.pictures.size) app.looks = { count: app.pictures.size };
  return app.looks[index] ??= measure(app, s, index);
}

function measure(app, s, index) {
  const isOf = ([key]) => {
    const [run, level] = key.split("|");
    return s.runs[run].levels[level].index === index;
  };
  const planes = [...app.pictures].filter(isOf).map(([, plane]) => plane);
  const top = planes.reduce((most, plane) => plane.reduce((a, b) => Math.max(a, b), most), 0) || 1;
  const values = planes.flatMap((plane) => Array.from(plane).filter((value) => value > 0)).sort((a, b) => a - b);
  const weak = values.length ? decibels(values[Math.floor(values.length * WEAKEST)], top) : -20;
  return { top, floor: clamp(Math.floor(weak / 5) * 5, DEEPEST, SHALLOWEST) };
}

const decibels = (value, top) => 20 * Math.log10(value / top);

// What is zero, as where the high-pass removes a frequency, has no colour.
function colourOf(app, plane, { top, floor }) {
  const table = app.tables.cividis;
  return (n) => (plane[n] > 0 ? [table, Math.round(clamp(1 - decibels(plane[n], top) / floor, 0, 1) * 255)] : null);
}

function showLarge(app, s, row, epoch, look) {
  const { large } = row, [H, W] = s.runs[row.run].levels[row.level].size;
  const plane = app.pictures.get(pictureKey(row.run, row.level, epoch));
  const key = [epoch, Boolean(plane), look.top, look.floor].join();
  if (large.key === key) return;
  large.key = key;
  const across = [-(W >> 1), "kx", W - (W >> 1) - 1], down = [-(H >> 1), "ky", H - (H >> 1) - 1];
  const say = plane && ((n) => (plane[n] > 0 ? `${num(decibels(plane[n], look.top), 1)} dB` : "nothing"));
  drawPanel(large, { box: BOX, H, W, title: epoch ? `epoch ${epoch}` : "no epoch yet", across, down }, {
    colour: plane ? colourOf(app, plane, look) : () => null,
    key: [app.tables.cividis, num(look.floor, 0) + " dB", `0 dB is ${look.top.toPrecision(3)}`], say,
  });
}

function showCell(app, run, row, cell, { look, side, chosen }) {
  cell.on = cell.epoch === chosen;
  cell.root.classList.toggle("fv-on", cell.on);
  const plane = app.pictures.get(pictureKey(row.run, row.level, cell.epoch));
  const drawn = [look.top, look.floor, Boolean(plane), side].join();
  if (cell.drawn === drawn) return;
  cell.drawn = drawn;
  const [H, W] = run.levels[row.level].size, pixel = side / Math.max(H, W);
  Object.assign(cell.canvas.style, { width: W * pixel + "px", height: H * pixel + "px" });
  paint(cell.canvas, H, W, plane ? colourOf(app, plane, look) : () => null);
}

function readPixel(app, row, epoch, i, j) {
  const plane = app.pictures.get(pictureKey(row.run, row.level, epoch)), { size: [H, W], title } = levelOf(app, row);
  if (!plane) return;
  const value = plane[i * W + j], top = row.look.top;
  const said = value > 0 ? `|H| ${value.toPrecision(3)}, ${num(decibels(value, top), 1)} dB` : "nothing";
  const whose = row.name && row.name + ", ", where = `kx ${num(j - (W >> 1), 0)}, ky ${num(i - (H >> 1), 0)}`;
  app.tell(`${whose}${title}, epoch ${epoch}, ${where}: ${said}`);
}

const levelOf = (app, row) => app.model.get("_runs")[row.run].levels[row.level];

// Ask for pictures that are shown and not there, the present ones first; one question at a time.
export function askForFilters(app, wanted) {
  if (app.meta.alone || app.asked) return;
  for (const [run, epochs] of wanted) {
    const known = (epoch) => app.pictures.has(pictureKey(run, 0, epoch)) || app.missing.has(`${run}|${epoch}`);
    const lacking = epochs.filter((epoch) => !known(epoch));
    if (!lacking.length) continue;
    app.asked = true;
    return app.model.send({ ask: "filters", run, epochs: lacking.slice(0, AT_ONCE) });
  }
}
