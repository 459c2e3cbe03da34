// The chosen image, and over it the map of each network.
import { putPixels } from "../shared/colour.js";
import { h } from "../shared/dom.js";
import { clamp, num, weight } from "../shared/numbers.js";
import { framePanel, panel } from "../shared/panel.js";
import { countBelow, edges, enlarge, leastOfTop } from "../shared/resample.js";
import { called } from "./state.js";

const PHOTO = 96; // pixels of a side above which a picture is drawn smooth

export function buildPanel(name) {
  const p = panel(name);
  p.note = h("div", { className: "fv-note" });
  p.root.append(p.note);
  return p;
}

// Everything about a map that drawing needs: values at the size of the picture, in rising order as well, and which are
// in the top share. Kept with the map, because a key press draws all networks again.
export function grown(map, [H, W], top) {
  if (!map.values) {
    map.values = enlarge(map.evidence, map.h, map.w, H, W);
    map.sorted = map.values.slice().sort();
    map.highest = map.sorted.at(-1);
  }
  if (map.top !== top) {
    map.top = top;
    map.least = leastOfTop(map.sorted, top);
    map.path = null;
  }
  map.inTop ??= (n) => map.values[n] >= map.least && map.values[n] > 0;
  return map;
}

// Upper ends of the colour ranges by network: each its own, or one for all networks of this image.
export function ranges(s, size) {
  const maps = s.names.filter((name) => !s.shown[name].refused);
  const ends = maps.map((name) => grown(s.shown[name], size, s.top).highest);
  const most = Math.max(0, ...ends);
  return Object.fromEntries(maps.map((name, k) => [name, (s.scale === "shared" ? most : ends[k]) || 1]));
}

export function drawPicture(app, s, p, box) {
  const [H, W] = app.meta.size, pixels = app.pictures.get(s.image), facts = app.facts.get(s.image);
  const title = `image ${s.image}`;
  framePanel(p, { box, H, W, title }, { key: [app.tables.map], say: null });
  p.root.classList.toggle("fv-photo", Math.max(H, W) > PHOTO);
  putPixels(p.canvas, pixels ?? new ImageData(W, H));
  const truth = facts?.label == null ? "" : called(app, facts.label);
  p.note.replaceChildren(truth);
  p.say = pixels && ((n) => `red, green, blue ${[...pixels.data.subarray(4 * n, 4 * n + 3)].join(", ")}`);
}

export function drawMap(app, s, p, name, box, end) {
  const size = app.meta.size, [H, W] = size, map = s.shown[name], table = app.tables.map;
  const given = map.refused ? null : grown(map, size, s.top);
  const say = given && ((n) => wordsOf(given, n));
  const key = given ? [table, "0", weight(end)] : [table];
  framePanel(p, { box, H, W, title: name }, { key, say });
  p.root.classList.toggle("fv-photo", Math.max(H, W) > PHOTO);
  const pixels = app.pictures.get(s.image);
  putPixels(p.canvas, blended(pixels, given, end, app.hidden || !given ? 0 : s.blend, table, W, H));
  drawOutline(p, given && !app.hidden && given.highest > 0 ? given : null, H, W);
  p.note.replaceChildren(...notesOf(app, s, name, map));
  p.note.classList.toggle("fv-bad", isWrong(app, s, name));
}

// The picture, with the colours of the map laid over it: `blend` of the colour, the rest of the picture.
function blended(pixels, map, end, blend, table, W, H) {
  const image = new ImageData(W, H), out = image.data, under = pixels?.data;
  for (let n = 0; n < H * W; n++) {
    const at = map ? 3 * clamp(Math.round(map.values[n] / end * 255), 0, 255) : 0;
    for (let k = 0; k < 3; k++) {
      const below = under ? under[4 * n + k] : 128;
      out[4 * n + k] = Math.round(below + blend * (table[at + k] - below));
    }
    out[4 * n + 3] = 255;
  }
  return image;
}

// The edge of the top share of the pixels.
function drawOutline(p, map, H, W) {
  if (!map) return p.lines.replaceChildren();
  map.path ??= edges(H, W, map.inTop);
  p.lines.replaceChildren(h("path", { d: map.path }));
}

// The value of a pixel: as it is, as a share of the largest, and in which top share of the pixels it lies.
export function wordsOf(map, n) {
  const value = map.values[n];
  if (!(map.highest > 0)) return "0";
  const rank = 1 - countBelow(map.sorted, value) / map.sorted.length;
  return `${weight(value)} (${num(100 * value / map.highest, 0)} % of its largest; top ${num(100 * rank, 0)} %)`;
}

function isWrong(app, s, name) {
  const facts = app.facts.get(s.image);
  return facts?.label != null && facts.predicted[name] !== facts.label;
}

// What the network says of the image, and why its map is empty.
function notesOf(app, s, name, map) {
  const facts = app.facts.get(s.image), notes = [];
  if (facts) notes.push(`says ${called(app, facts.predicted[name])} (p ${num(facts.p[name])})`);
  if (map.refused) return [...lines(notes), h("em", {}, map.refused)];
  if (facts && map.label !== facts.predicted[name]) notes.push(`map of ${called(app, map.label)} (p ${num(map.p)})`);
  return map.why ? [...lines(notes), h("em", {}, map.why)] : lines(notes);
}

const lines = (notes) => notes.map((note) => h("div", {}, note));

// Intersection over union of the top shares of two maps; null if one of them is constant.
export function overlap(one, other) {
  if (!(one.highest > one.sorted[0]) || !(other.highest > other.sorted[0])) return null;
  let both = 0, either = 0;
  for (let n = 0; n < one.values.length; n++) {
    const a = one.inTop(n), b = other.inTop(n);
    both += a && b;
    either += a || b;
  }
  return both / Math.max(1, either);
}
