// The wall: small pictures of several filters of a level in the chosen view, on one scale. A click or a key chooses.
import { paint } from "../shared/colour.js";
import { h } from "../shared/dom.js";
import { pixelAt } from "../shared/hover.js";
import { onStep } from "../shared/keyboard.js";
import { clamp, largest, num } from "../shared/numbers.js";
import { pairsOfLarge } from "./large.js";
import { shade } from "./shade.js";
import { inverse, polar, rangeOf } from "./spectrum.js";
import { choose, fieldOfPair } from "./state.js";

export const WALLS = {
  none: "none", strongest: "strongest", output: "of this output", input: "of this input",
};
const STRONGEST = 48; // as encode.WALL
const MOST = 128; // pictures
const SIDE = 72; // px

export function buildWall(app) {
  const grid = h("div", { className: "fv-wall-grid", tabIndex: 0 }), words = h("p", { className: "fv-hint" });
  grid.setAttribute("data-lm-suppress-shortcuts", "true");
  grid.setAttribute("role", "application");
  grid.setAttribute("aria-label", "wall of filters; arrow keys choose");
  const wall = { root: h("div", { className: "fv-filters-wall", hidden: true }, words, grid), grid, words, cells: [] };
  Object.assign(wall, { key: "", shown: [] });
  onStep(grid, ([i, j]) => stepWall(app, wall, i, j));
  return wall;
}

// Another filter of the wall: the next one, or the one in the next row.
function stepWall(app, wall, i, j) {
  const { shown, cells } = wall, now = shown.findIndex(({ on }) => on);
  const top = cells[0]?.root.offsetTop, row = cells.filter(({ root }) => root.offsetTop === top).length;
  const at = shown[clamp(now < 0 ? 0 : now + j + Math.sign(i) * row, 0, shown.length - 1)];
  if (at) choose(app, at.out, at.inn);
}

export function showWall(app, s) {
  const { wall } = app.ui;
  wall.root.hidden = s.wall === "none";
  if (wall.root.hidden) return;
  const one = { output: s.out, input: s.in }[s.wall] ?? null, get = (name) => app.model.get(name);
  const rows = Object.keys(get("_rows")); // that are there
  const look = [s.view, s.fixed, s.raw, s.epoch, get("colormap"), s.L.reference];
  const key = JSON.stringify([s.level, s.wall, one, ...look, rows]);
  if (wall.key !== key) {
    wall.key = key;
    drawAll(app, s, wall);
  }
  wall.shown.forEach((each, n) => {
    each.on = !s.all && each.out === s.out && each.inn === s.in;
    wall.cells[n].root.classList.toggle("fv-on", each.on);
  });
}

function drawAll(app, s, wall) {
  const pairs = pairsOf(s), shown = pairs.map(([out, inn]) => ({ out, inn, z: fieldOfPair(app, s, out, inn) }))
    .filter(({ z }) => z);
  const look = { ...s, mean: false, ...rangeOf(s, shown.map(({ z }) => z)) };
  for (const each of shown) {
    polar(each.z, look);
    each.kernel = s.view === "kernel" ? inverse(each.z) : [];
  }
  const top = shown.reduce((most, { kernel }) => Math.max(most, largest(kernel)), 0) || 1;
  while (wall.cells.length < shown.length) wall.cells.push(buildCell(app, wall, wall.cells.length));
  wall.shown = shown;
  wall.grid.replaceChildren(...wall.cells.slice(0, shown.length).map((cell) => cell.root));
  shown.forEach((each, n) => {
    each.look = shade(app.tables, look, s.view, each.z, each.kernel, top);
    drawCell(wall.cells[n], each, s);
  });
  const range = s.view === "kernel" ? `${num(-top, 4)} to ${num(top, 4)}` : `${num(look.floor, 0)} to 0 dB`;
  const left = pairs.length - shown.length;
  wall.words.textContent = `${shown.length} filters, input → output channel, all on one scale: ${range}`
    + (s.view === "kernel" ? "." : `, where 0 dB is ${look.reference.toPrecision(3)}.`)
    + (left ? ` ${left} ${s.epoch ? `were not kept after epoch ${s.epoch}` : "are not in this page"}.` : "");
}

// The pairs of channels of the wall: the strongest first, or in the order of their channel.
function pairsOf({ L, wall, epoch, out, in: inn }) {
  const channel = { output: ([o]) => o === out, input: ([, i]) => i === inn }[wall];
  if (L.large) return pairsOfLarge(L, epoch, channel, channel ? MOST : STRONGEST);
  const pair = (n) => [Math.floor(n / L.C), n % L.C];
  if (wall === "strongest") return L.order(epoch).slice(0, STRONGEST).map(pair);
  const kept = L.order(epoch).map(pair).filter(channel).slice(0, MOST);
  return kept.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
}

function buildCell(app, wall, n) {
  const canvas = h("canvas", { tabIndex: -1 }), words = h("figcaption");
  const read = (event) => {
    const { out, inn, look, z } = wall.shown[n], [i, j] = pixelAt(event, canvas);
    const [x, y] = [j - (z.W >> 1), i - (z.H >> 1)].map((value) => num(value, 0));
    const where = app.shown.view === "kernel" ? `x ${x}, y ${y}` : `kx ${x}, ky ${y}`;
    app.ui.readout.textContent = `Output ${out}, input ${inn} at ${where}: ${look.say(i * z.W + j)}`;
  };
  canvas.onpointermove = canvas.onpointerdown = read;
  canvas.onpointerleave = (event) => event.pointerType !== "touch" && (app.ui.readout.textContent = app.readout);
  canvas.onclick = () => choose(app, wall.shown[n].out, wall.shown[n].inn);
  return { canvas, words, root: h("figure", { className: "fv-wall-cell" }, canvas, words) };
}

function drawCell({ canvas, words }, { out, inn, z, look }, s) {
  const pixel = SIDE / Math.max(z.H, z.W);
  Object.assign(canvas.style, { width: z.W * pixel + "px", height: z.H * pixel + "px" });
  paint(canvas, z.H, z.W, look.colour);
  words.textContent = `${inn} → ${out}`;
  words.title = `energy ${num(s.L.row(s.epoch, out, inn)[2], 1)} dB of the strongest`;
}
