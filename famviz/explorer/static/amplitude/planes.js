// The spectra of all networks on one scale, and below each its difference from the reference on one scale.
import { shadeSigned } from "../shared/colour.js";
import { h } from "../shared/dom.js";
import { clamp, num } from "../shared/numbers.js";
import { drawPanel, panel } from "../shared/panel.js";
import { edges } from "../shared/resample.js";
import { hasBand, insideOf } from "./grid.js";
import { remembered, shownOf } from "./state.js";

export const UNITS = { mean: "dB re mean", dc: "dB re DC", none: "dB" };
const NARROW = 125; // px of a spectrum below which its scale has no room for the unit
const LOWEST = 0.01, HIGHEST = 0.995; // quantiles where colours begin, and where those of differences end

// A column for each network: its spectrum, and its difference from the reference.
export function buildColumns({ meta }) {
  return Object.fromEntries(meta.networks.map((name) => {
    const column = { plane: panel("plane"), gap: panel("gap"), note: h("div", { className: "fv-note" }) };
    column.root = h("div", { className: "fv-column" }, column.plane.root, column.gap.root, column.note);
    return [name, column];
  }));
}

export function drawColumns(app, s, box) {
  const found = shownOf(app, s), ends = rangesOf(app, s, found), outline = outlineOf(app, s);
  for (const name of s.names) {
    const { root, plane, gap, note } = app.ui.columns[name];
    root.hidden = !s.present.includes(name);
    if (root.hidden) continue;
    root.classList.toggle("fv-on", name === s.network);
    drawSpectrum(app, s, plane, name, box, found.planes[name], ends, outline);
    const compared = name !== s.reference && s.present.includes(s.reference);
    gap.root.hidden = !compared;
    if (compared) drawGap(app, s, gap, name, box, found, ends.gap, outline);
    note.replaceChildren(...notesOf(app, s, name, found));
  }
}

// Ends of the two scales, from all frequencies but DC.
function rangesOf(app, s, { planes }) {
  return remembered(app, "ranges", [...s.key, s.reference], () => {
    const { dc } = s.grid, without = (plane) => Array.from(plane.subarray(0, dc)).concat([...plane.subarray(dc + 1)]);
    const all = s.present.flatMap((name) => without(planes[name])).sort((a, b) => a - b);
    const gaps = s.others.flatMap((name) => without(gapOf(planes, name, s.reference)).map(Math.abs));
    gaps.sort((a, b) => a - b);
    return { low: quantile(all, LOWEST), high: all.at(-1), gap: Math.max(0.1, quantile(gaps, HIGHEST) || 0) };
  });
}

// Linear between two values, as numpy has it.
function quantile(sorted, q) {
  const place = q * (sorted.length - 1), low = Math.floor(place), high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (place - low) * (sorted[high] - sorted[low]);
}

export function gapOf(planes, name, reference) {
  const base = planes[reference];
  return base ? planes[name].map((value, n) => value - base[n]) : planes[name].map(() => 0);
}

function drawSpectrum(app, s, p, name, box, values, { low, high }, outline) {
  const table = app.tables.amplitude, unit = UNITS[s.relative];
  drawPanel(p, frameOf(s, box, name + age(app, s, name)), {
    colour: (n) => [table, clamp(Math.round((values[n] - low) / (high - low || 1) * 255), 0, 255)],
    key: [table, num(low, 1), ...(box < NARROW ? [] : [unit]), num(high, 1)],
    say: (n) => `${num(values[n], 1)} dB`,
  });
  p.lines.replaceChildren(...outline());
}

function drawGap(app, s, p, name, box, { planes }, top, outline) {
  const values = gapOf(planes, name, s.reference), write = (value) => num(value, 1);
  const look = shadeSigned(app.tables.signed, values, top, write, "");
  look.key = [app.tables.signed, num(-top, 1), "dB", num(top, 1)];
  drawPanel(p, frameOf(s, box, `${name} − ${s.reference}`), look);
  p.lines.replaceChildren(...outline());
}

function frameOf({ size: [H, W] }, box, title) {
  const across = [-(W >> 1), "kx", W - (W >> 1) - 1], down = [-(H >> 1), "ky", H - (H >> 1) - 1];
  return { box, H, W, title, across, down };
}

// Networks without a checkpoint of the chosen epoch keep their weights of the end.
function age(app, s, name) {
  if (!s.epoch) return "";
  return app.meta.of_epoch[s.epoch].includes(name) ? `, epoch ${s.epoch}` : ", at the end";
}

// The edge of the band.
function outlineOf(app, s) {
  if (!hasBand(s.band)) return () => [];
  const [H, W] = s.size;
  const path = remembered(app, "outline", [s.size, s.band], () => edges(H, W, insideOf(s.grid, s.band)));
  return () => [h("path", { d: path })];
}

// How far a network is from the reference in figures, as famviz.features prints them.
function notesOf(app, s, name, { planes, radial }) {
  const own = s.found[name], first = s.found[s.reference];
  if (name === s.reference || !first) {
    const levels = name === s.reference ? "reference; " : "";
    return [`${levels}level ${num(own.loudness, 1)}, DC ${num(own.dc, 1)} dB`];
  }
  const curve = rms(Array.from(radial[name], (value, ring) => value - radial[s.reference][ring]).slice(1));
  const gap = Array.from(gapOf(planes, name, s.reference)), { dc } = s.grid;
  const plane = rms([...gap.slice(0, dc), ...gap.slice(dc + 1)]);
  const signed = (value) => (value < 0 ? "" : "+") + num(value, 1);
  return [
    h("div", {}, `RMS curve ${num(curve, 1)}, plane ${num(plane, 1)} dB`),
    h("div", {}, `level ${signed(own.loudness - first.loudness)}, DC ${signed(own.dc - first.dc)} dB`),
  ];
}

const rms = (values) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
