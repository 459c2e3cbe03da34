// A grid of values in SVG: a cell for each row and column. Cells are read and chosen by mouse, finger and keys.
import { h } from "../shared/dom.js";
import { onStep } from "../shared/keyboard.js";
import { clamp } from "../shared/numbers.js";

const CELL = 26, CHARACTER = 5.6, PAD = 8; // px: a cell, the mean width of a letter, the space around names
const LONGEST = 24; // letters of a name; the read-out has all of them

// `tell(i, j)` is called for the cell under the pointer or the keys, `forget()` when there is none, `choose(i, j)` on a
// click or Enter.
export function makeHeat({ label, tell, forget, choose = () => {} }) {
  const svg = h("svg", { role: "application", tabindex: 0, class: "fv-heat", "aria-label": label });
  svg.setAttribute("data-lm-suppress-shortcuts", "true");
  const heat = { root: svg, key: "", at: null, rows: 0, columns: 0, left: 0, top: PAD, mark: null, frame: null };
  svg.addEventListener("pointermove", (event) => {
    const cell = cellAt(heat, event);
    return cell ? tell(...cell) : forget();
  });
  svg.addEventListener("pointerleave", forget);
  svg.addEventListener("click", (event) => {
    const cell = cellAt(heat, event);
    if (cell) choose(...cell);
  });
  onStep(svg, ([i, j]) => {
    if (!heat.rows) return;
    const [row, column] = heat.at ?? [0, 0], moved = heat.at ? [row + i, column + j] : [0, 0];
    heat.at = [clamp(moved[0], 0, heat.rows - 1), clamp(moved[1], 0, heat.columns - 1)];
    place(heat, heat.mark, heat.at);
    tell(...heat.at);
  });
  svg.addEventListener("keydown", (event) => {
    if ((event.key !== "Enter" && event.key !== " ") || !heat.at) return;
    event.preventDefault();
    choose(...heat.at);
  });
  svg.addEventListener("blur", () => {
    heat.at = null;
    place(heat, heat.mark, null);
    forget();
  });
  return heat;
}

// Draw a grid {rows, columns, down, across, text(i, j), strength(i, j)}: names, what the sides are, the words of a cell
// and how strong its colour is, 0..1. It is built again only if `key` changed. `chosen` is a cell [i, j] or null.
export function showHeat(heat, key, grid, chosen) {
  if (heat.key !== key) {
    heat.key = key;
    build(heat, grid);
  }
  place(heat, heat.frame, chosen);
}

function build(heat, { rows, columns, down, across, text, strength }) {
  const room = (names) => PAD + CHARACTER * Math.min(LONGEST, Math.max(1, ...names.map((name) => name.length)));
  const left = 16 + room(rows), bottom = PAD + CELL * rows.length;
  Object.assign(heat, { rows: rows.length, columns: columns.length, left, at: null });
  Object.assign(heat, { mark: h("rect", { class: "fv-mark" }), frame: h("rect", { class: "fv-frame" }) });
  const width = left + Math.max(CELL * columns.length, CHARACTER * across.length) + PAD;
  const height = bottom + room(columns) + 18, nodes = [];
  const write = (x, y, words, anchor, more = {}) => nodes.push(
    h("text", { x, y, "text-anchor": anchor, ...more }, words));
  rows.forEach((name, i) => write(left - 4, PAD + (i + 0.5) * CELL + 3, shortened(name), "end"));
  columns.forEach((name, j) => {
    const x = left + (j + 0.5) * CELL + 3, y = bottom + 5;
    write(x, y, shortened(name), "end", { transform: `rotate(-90 ${x} ${y})` });
  });
  write(left, height - 4, across, "start");
  const middle = (PAD + bottom) / 2;
  write(11, middle, down, "middle", { transform: `rotate(-90 11 ${middle})` });
  const cells = rows.flatMap((_, i) => columns.map((__, j) => cellOf(heat, i, j, strength(i, j))));
  rows.forEach((_, i) => columns.forEach((__, j) => {
    write(left + (j + 0.5) * CELL, PAD + (i + 0.5) * CELL + 3, text(i, j), "middle");
  }));
  for (const [name, value] of Object.entries({ width, height, viewBox: `0 0 ${width} ${height}` })) {
    heat.root.setAttribute(name, value);
  }
  heat.root.replaceChildren(...cells, ...nodes, heat.frame, heat.mark);
}

function cellOf(heat, i, j, strength) {
  const node = h("rect", { class: "fv-tile", "fill-opacity": (0.03 + 0.52 * clamp(strength || 0, 0, 1)).toFixed(3) });
  place(heat, node, [i, j], 1);
  return node;
}

// Lay a rectangle over a cell; null takes it away.
function place(heat, node, cell, inset = 0) {
  if (!node) return;
  const [i, j] = cell ?? [0, 0], side = cell ? CELL - 2 * inset : 0;
  const box = { x: heat.left + j * CELL + inset, y: heat.top + i * CELL + inset, width: side, height: side };
  for (const [name, value] of Object.entries(box)) node.setAttribute(name, value);
}

const shortened = (name) => (name.length > LONGEST ? name.slice(0, LONGEST - 1) + "…" : name);

function cellAt(heat, event) {
  const box = heat.root.getBoundingClientRect(), scale = heat.root.viewBox.baseVal.width / box.width;
  const j = Math.floor(((event.clientX - box.left) * scale - heat.left) / CELL);
  const i = Math.floor(((event.clientY - box.top) * scale - heat.top) / CELL);
  return i >= 0 && j >= 0 && i < heat.rows && j < heat.columns ? [i, j] : null;
}
