// The amplitude explorer of famviz: spectra of the stages of several networks, and what a band of frequencies holds.
// One module for two hosts: anywidget in a notebook, and a saved page, which holds the messages of the kernel.
import { countDrawing, saveAs } from "../shared/dom.js";
import { markPixel, onRead, onReadKeys, pixelAt } from "../shared/hover.js";
import { onKeys } from "../shared/keyboard.js";
import { clamp, num } from "../shared/numbers.js";
import { alignTitles } from "../shared/panel.js";
import { snapshot } from "../shared/snapshot.js";
import { put, whenIdle, widget } from "../shared/widget.js";
import { answered, ask, makeAsker } from "./ask.js";
import { buildPage, showControls } from "./controls.js";
import { chooseAngles, chooseRings, putBand, showCurves } from "./curves.js";
import { STEP, bandWords } from "./grid.js";
import { showMost, showShares } from "./images.js";
import { drawColumns, gapOf } from "./planes.js";
import { drawRebuilt } from "./rebuilt.js";
import { ALL, makeApp, readState, receive, shownOf } from "./state.js";

const WIDE = 1060, PROFILES = 356; // px from which the profiles stand beside the spectra, and their width then
const BOX = { least: 96, most: 250, edge: 50 }; // px of a spectrum, and of what stands around it
const FEW = 2; // networks up to which a difference stands beside its spectrum, not below

function connect(app) {
  const { ui } = app;
  app.tell = (words) => (ui.readout.textContent = words);
  app.forget = () => (ui.readout.textContent = app.readout);
  for (const p of spectraPanels(app)) connectSpectrum(app, p);
  for (const p of ui.rebuilt.panels) connectMaps(app, p);
  onKeys(ui.root, {
    Escape: () => putBand(app, { rings: [], angles: [] }),
    ",": () => stepStage(app, -1),
    ".": () => stepStage(app, 1),
    m: () => put(app, { image: app.model.get("image") === ALL ? readState(app).subject : ALL }),
    d: () => put(app, { profile: app.model.get("profile") === "spectrum" ? "difference" : "spectrum" }),
    w: () => put(app, { window: !app.model.get("window") }),
    "?": ui.help.toggle,
  });
  ui.save.onclick = () => savePicture(app);
  makeAsker(app);
}

const spectraPanels = ({ ui }) => Object.values(ui.columns).flatMap(({ plane, gap }) => [plane, gap]);

// Read a spectrum by pointer or keys, and choose a band by a drag or Enter.
function connectSpectrum(app, p) {
  const { canvas } = p, forget = () => forgetPlace(app, spectraPanels(app));
  let from = null, read = null;
  const tell = (i, j) => {
    read = [i, j];
    readFrequency(app, i, j);
    if (from) chooseBetween(app, from, [i, j]);
  };
  onRead(p, tell, forget);
  onReadKeys(p, tell, forget);
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    from = pixelAt(event, canvas);
    canvas.setPointerCapture(event.pointerId);
    chooseBetween(app, from, from);
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (from = null));
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && read) chooseBetween(app, read, read);
  });
}

// The rings, or the directions, between two places of a spectrum. Of directions the shorter way around.
function chooseBetween(app, one, other) {
  const s = readState(app), { grid } = s, [a, b] = [one, other].map(([i, j]) => i * grid.W + j);
  if (s.brush === "ring") {
    const rings = [grid.ring[a], grid.ring[b]].sort((x, y) => x - y);
    return chooseRings(app, ...rings);
  }
  const [x, y] = [grid.direction[a], grid.direction[b]].sort((p, q) => p - q);
  if (y - x <= 6) chooseAngles(app, x, y);
  else chooseAngles(app, y, x);
}

function connectMaps(app, p) {
  const forget = () => forgetPlace(app, [p]);
  const read = (i, j) => {
    app.tell(`${p.title.textContent}: ${p.say(i * p.canvas.width + j)}`);
    markPixel(p, i, j);
  };
  onRead(p, read, forget);
  onReadKeys(p, read, forget);
}

// The values of all networks at one frequency.
function readFrequency(app, i, j) {
  const s = readState(app), { grid } = s, n = i * grid.W + j;
  if (!s.found) return;
  const { planes } = shownOf(app, s), kx = j - (grid.W >> 1), ky = i - (grid.H >> 1), based = planes[s.reference];
  const said = s.present.map((name) => {
    const gap = gapOf(planes, name, s.reference)[n], signed = (gap < 0 ? "" : "+") + num(gap, 1);
    return `${name} ${num(planes[name][n], 1)}${based && name !== s.reference ? ` (${signed})` : ""}`;
  });
  const where = n === grid.dc ? "DC" : `ring ${grid.ring[n]}, ${grid.direction[n] * STEP}°`;
  app.tell(`kx ${num(kx, 0)}, ky ${num(ky, 0)} (${where}), dB: ${said.join("; ")}`);
  for (const p of spectraPanels(app)) if (!p.root.hidden) markPixel(p, i, j);
}

function forgetPlace(app, panels) {
  app.forget();
  for (const p of panels) p.marks.replaceChildren();
}

function stepStage(app, by) {
  const { stages } = app.meta;
  put(app, { stage: stages[clamp(readState(app).stage + by, 0, stages.length - 1)] });
}

function draw(app) {
  const s = readState(app), { ui } = app;
  showControls(app, s);
  ui.root.classList.toggle("fv-wait", !s.found);
  ui.root.classList.toggle("fv-wide", (app.width || 960) >= WIDE);
  ui.grid.classList.toggle("fv-few", s.names.length <= FEW);
  if (s.found) {
    drawColumns(app, s, boxOf(app, s));
    showCurves(app, s);
    ui.root.dataset.shown = JSON.stringify([s.stage, s.image, s.look]);
  }
  showShares(app, s);
  showMost(app, s);
  alignRows(app);
  ui.work.hidden = !s.mean || s.complete;
  ui.work.value = s.mean ? s.mean.count / app.meta.count : 0;
  app.readout = ui.readout.textContent = readoutOf(app, s);
  countDrawing(ui.root);
  later(app);
  ask(app.asker, s);
}

// Titles of the spectra have one height, and those of the differences another one.
function alignRows({ ui }) {
  const columns = Object.values(ui.columns).filter(({ root }) => !root.hidden);
  const planes = columns.map(({ plane }) => plane), gaps = columns.map(({ gap }) => gap).filter((p) => !p.root.hidden);
  for (const row of columns.length > FEW ? [planes, gaps] : [[...planes, ...gaps]]) alignTitles(row);
}

// Maps are rebuilt after the spectra were painted, a little at a time, and not for a choice that has changed by then.
function later(app) {
  app.rebuild?.cancel();
  app.rebuild = whenIdle(rebuild(app, readState(app)));
}

function* rebuild(app, s) {
  if (yield* drawRebuilt(app, s)) {
    app.ui.root.dataset.rebuilt = JSON.stringify([s.stage, s.subject, s.epoch, s.band]);
  }
  alignTitles(app.ui.rebuilt.panels.filter((p) => !p.root.hidden));
}

function readoutOf(app, s) {
  if (app.failed) return app.failed;
  if (!s.found) return app.meta.alone ? "This page does not hold that." : "computing the spectra …";
  const { count } = app.meta, known = s.mean?.count ?? 0, some = known < count ? `${known} of ${count}` : count;
  const of = s.image === ALL ? `Mean of ${some} images` : `Image ${s.image}`;
  const size = s.size.join(" × "), window = s.window ? ", windowed" : "";
  const missing = s.names.filter((name) => !s.present.includes(name));
  const without = missing.length ? ` Without this stage: ${missing.join(", ")}.` : "";
  return `${of}, ${app.meta.stages[s.stage]}, ${size} frequencies${window}. Band: ${bandWords(s.band)}.${without}`;
}

// The larger side of a spectrum in px, so that all stand in one row if they can.
function boxOf(app, s) {
  const width = app.width || 960, room = width >= WIDE ? width - PROFILES : width;
  const count = s.names.length, across = count <= FEW ? 2 * count - 1 : count;
  return clamp(Math.floor(room / across) - BOX.edge, BOX.least, BOX.most);
}

function savePicture(app) {
  const s = readState(app), panels = spectraPanels(app).filter((p) => !p.root.hidden && !p.root.parentNode.hidden);
  const name = ["amplitude", app.meta.stages[s.stage], s.image === ALL ? "mean" : `image ${s.image}`].join("-");
  saveAs(snapshot(panels, readoutOf(app, s)), name);
}

export default widget({
  traits: ["stage", "network", "reference", "image", "relative", "window", "epoch", "rings", "angles", "brush",
    "profile"],
  make: makeApp,
  build: buildPage,
  connect,
  draw,
  receive(app, content, buffers) {
    receive(app, content, buffers);
    answered(app.asker, content);
  },
  stop: (app) => app.rebuild?.cancel(),
});
