// What each part of the page shows of the present choice.
import { paint } from "../shared/colour.js";
import { countDrawing, h } from "../shared/dom.js";
import { clamp, largest, minus, num } from "../shared/numbers.js";
import { alignTitles, drawPanel } from "../shared/panel.js";
import { showControls } from "./controls.js";
import { drawCurves } from "./curve.js";
import { showEffect } from "./effect.js";
import { outline, shareBars } from "./outline.js";
import { darkness, shade } from "./shade.js";
import { askForMore, isKnown, progressOf } from "./large.js";
import { VIEWS, captions, difference, energies, inverse, polar, radialDb, rangeOf, words } from "./spectrum.js";
import { fieldOf, readState } from "./state.js";
import { showRows } from "./table.js";
import { showWall } from "./wall.js";

const notHeld = (s) => `This page does not hold this ${s.L.large ? "filter" : "row"}`;
// Draw everything. z and b are the fields of the two runs: undefined on the way, null for an epoch that is not kept.
export function draw(app) {
  const s = readState(app), { ui, meta } = app;
  const z = fieldOf(app, s.L, s), b = s.B ? fieldOf(app, s.B, s) : null;
  const waiting = z === undefined || b === undefined;
  Object.assign(s, boxesOf(app.width, s.B), rangeOf(s, [z, b].filter(Boolean)));
  app.shown = s;
  showControls(app, s);
  const said = [captions(s, meta.runs), progressOf(s.L, app.failed[s.L.key])].filter(Boolean);
  ui.options.textContent = said.join(". ");
  showNavigator(app, s);
  showRows(app, s, ([out, inn]) => showsPair(s) && out === s.out && inn === s.in);
  showWall(app, s);
  showEffect(app, s);
  showRuns(app, s, b);
  ui.root.classList.toggle("fv-wait", waiting && !meta.alone);
  if (z) showFields(app, s, z, b);
  else if (meta.alone) clearFields(app, s);
  if (s.B && (b === null || (meta.alone && waiting))) clearComparison(app, s, b);
  alignTitles(ui.panels);
  app.readout = ui.readout.textContent = readoutOf(app, s, z, b);
  countDrawing(ui.root);
  askForMore(app, s);
}

function readoutOf(app, s, z, b) {
  const { meta } = app, name = meta.runs[s.other];
  if (!z) return meta.alone ? `${notHeld(s)}: choose a stronger one, or open the run in a notebook.` : "loading …";
  if (s.other > 0 && !s.B) return `${words(s)} ${name} has no filter of this level and shape.`;
  if (s.B && b === null) {
    return `${words(s)} ${name} kept no epoch ${s.epoch}: it has ${s.B.epochs.join(", ") || "none"}.`;
  }
  return words(s);
}

// Energies of all pairs of channels, with the chosen pair.
function showNavigator(app, s) {
  const { nav } = app.ui, { O, C, step } = s.L.nav, { db, low } = energies(s.L, s.epoch), table = app.tables.energy;
  const run = s.B ? app.meta.runs[0] + ": " : "", when = s.epoch ? `epoch ${s.epoch}: ` : "filter ";
  const title = step === 1 ? `${run}${when}energy, dB` : `${run}${when}energy, dB: strongest of ${step}×${step}`;
  const across = [0, "input channel", C - 1], down = [0, "output channel", O - 1];
  drawPanel(nav, { box: s.navBox, H: O, W: C, title, across, down, first: [0, 0], each: step }, {
    colour: (n) => (s.epoch || isKnown(s.L, n) ? [table, Math.round(darkness(db[n], low) * 255)] : null),
    key: [table, num(low, 0) + " dB", "0 dB"],
    say: (n) => (s.epoch || isKnown(s.L, n) ? num(db[n], 1) + " dB of the strongest" : "not read yet"),
  });
  const chosen = h("rect", { x: Math.floor(s.in / step), y: Math.floor(s.out / step), width: 1, height: 1 });
  nav.lines.replaceChildren(...(showsPair(s) ? [chosen] : []));
}

// Whether one pair of channels is marked: not while all filters are chosen.
const showsPair = (s) => !s.all;

// The chosen filter of each run and their difference.
function showFields(app, s, z, b) {
  const { ui, meta } = app, kernels = s.view === "kernel";
  const kernelOf = (level, field) => inverse(s.mean ? fieldOf(app, level, s, true) : field);
  const first = kernelOf(s.L, polar(z, s)), second = b && kernelOf(s.B, polar(b, s));
  const top = Math.max(largest(first), b ? largest(second) : 0) || 1;
  showThumbs(app, s, z, first, top);
  showField(app, ui.main, s, z, first, top, s.B ? meta.runs[0] : "");
  if (b) {
    const kernel = minus(first, second), d = difference(z, b, s);
    const range = kernels ? largest(kernel) || 1 : Math.max(1, largest(d.db)); // bytes are exact to 0.3 dB only
    showField(app, ui.second, s, b, second, top, meta.runs[s.other]);
    showField(app, ui.change, s, d, kernel, range, "first minus second");
  }
  app.curves = (b ? [z, b] : [z]).map((field) => radialDb(field, s.reference));
  drawCurves(ui.curve, app.curves, s.floor);
}

function showField(app, p, s, z, kernel, top, name) {
  const look = shade(app.tables, s, s.view, z, kernel, top, p === app.ui.change);
  showFrame(p, s, titleOf(s, name), look);
}

// A panel with the axes of the view, and the high-pass outlined in spectra.
function showFrame(p, s, title, look) {
  const { H, W } = s.L, kernels = s.view === "kernel";
  const across = [-(W >> 1), kernels ? "x, px" : "kx, cycles per map", W - (W >> 1) - 1];
  const down = [-(H >> 1), kernels ? "y, px" : "ky", H - (H >> 1) - 1];
  drawPanel(p, { box: s.box, H, W, title, across, down, first: [across[0], down[0]] }, look);
  if (kernels || !look.say) p.lines.replaceChildren();
  else outline(p.lines, s.L);
}

function titleOf(s, name) {
  const parts = [name, s.epoch && `epoch ${s.epoch}`].filter(Boolean);
  const mean = s.view === "amplitude" ? "RMS of all filters, " : "mean of all, ";
  return parts.map((text) => text + ": ").join("") + (s.mean ? mean : "") + VIEWS[s.view];
}

// An empty panel, so that nothing of the last choice stays under a new title.
function clearPanel(app, p, s, title) {
  showFrame(p, s, title, { colour: () => null, key: [s.colours], say: null });
}

function clearFields(app, s) {
  clearPanel(app, app.ui.main, s, notHeld(s));
  showThumbs(app, s);
  app.ui.curve.replaceChildren();
  app.curves = [];
}

function clearComparison(app, s, b) {
  const why = b === null ? `no epoch ${s.epoch} kept` : "row not in this page";
  clearPanel(app, app.ui.second, s, `${app.meta.runs[s.other]}: ${why}`);
  clearPanel(app, app.ui.change, s, "no difference");
}

// One small picture of each view. Of an epoch without this filter there is only an amplitude.
function showThumbs(app, s, z, kernel, top) {
  for (const thumb of app.ui.thumbs) {
    const { view, canvas, button } = thumb;
    thumb.say = null;
    button.disabled = s.epoch > 0 && s.mean;
    button.setAttribute("aria-pressed", view === s.view);
    if (z && (view === "amplitude" || !button.disabled)) {
      const look = shade(app.tables, s, view, z, kernel, top);
      thumb.say = look.say;
      paint(canvas, s.L.H, s.L.W, look.colour);
    } else {
      canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    }
  }
}

// Names of the compared runs under the curves, and the shares of their branches.
function showRuns(app, s, b) {
  const { ui, meta } = app;
  const compared = s.B ? [[meta.runs[0], s.L], [meta.runs[s.other], s.B]] : [[meta.runs[0], s.L]];
  const drawn = b ? compared : [];
  ui.names.replaceChildren(...drawn.map(([name], i) => h("span", { className: "fv-name" + i }, name)));
  ui.shares.replaceChildren(...shareBars(s, compared));
}

// The larger sides of the pictures in px. One filter is as large as there is room beside the map of energies, with the
// curve to the right if that leaves enough. Two runs are three pictures, which stay in one row, with the curve if it
// fits.
// `width` is as last laid out: while a theme changes, one in between may be read that nothing corrects.
function boxesOf(width, two) {
  const room = width || 960;
  if (!two) {
    const navBox = 190, beside = room - navBox - 150, withCurve = beside - 340;
    return { navBox, box: clamp(withCurve >= 260 ? withCurve : beside, 180, 440) };
  }
  const curve = room >= 1080 ? 350 : 0, box = clamp(Math.floor((room - 250 - curve) / 4), 100, 320);
  return { box, navBox: box };
}
