// A panel: a canvas with overlays for outlines and marks, axis text around it and a colour scale below.
import { paint } from "./colour.js";
import { h } from "./dom.js";
import { minusSign, ticks } from "./numbers.js";

export const KEY_HEIGHT = 24; // pixels of a colour scale with two directions

export function panel(name, { label = "", role = "img" } = {}) {
  const canvas = h("canvas", { tabIndex: 0 });
  canvas.setAttribute("role", role);
  const overlay = () => h("svg", { preserveAspectRatio: "none" });
  const p = {
    canvas,
    lines: overlay(),
    marks: overlay(), // of the place that is read
    bar: h("canvas"),
    x: h("div", { className: "fv-x" }),
    y: h("div", { className: "fv-y" }),
    ends: h("div", { className: "fv-x" }),
    sides: h("div", { className: "fv-y fv-sides" }),
    title: h("figcaption", {}, label),
    say: null, // the value of a pixel in words; null if there is none
    texts: { across: [], down: [], ends: [] },
  };
  p.scale = h("div", { className: "fv-scale" }, p.bar, p.ends);
  const stack = h("div", { className: "fv-stack" }, canvas, p.lines, p.marks);
  p.root = h("figure", { className: "fv-" + name }, p.title, p.y, stack, p.x, p.sides, p.scale);
  return p;
}

// Lay a panel out for H x W pixels with their title, the texts along the axes, and a colour scale. `box` is the larger
// side in px. With `first`, the values [x, y] of the first pixel, the axes have ticks at whole numbers, `each` of them
// in a pixel. The caller fills the canvas.
export function framePanel(p, frame, look) {
  const { box, H, W, title, across = [], down = [], first = null, each = 1 } = frame;
  const side = box / Math.max(H, W), sides = look.sides ?? [], ends = look.key.slice(1);
  const width = Math.max(14, W * side) + "px", height = Math.max(14, H * side) + "px";
  for (const node of [p.canvas, p.lines, p.marks]) Object.assign(node.style, { width, height });
  p.x.style.width = p.scale.style.width = `max(${width}, 130px)`;
  for (const overlay of [p.lines, p.marks]) overlay.setAttribute("viewBox", `0 0 ${W} ${H}`);
  p.marks.replaceChildren();
  p.title.textContent = title;
  p.canvas.setAttribute("aria-label", title);
  const texts = { across, down, ends, sides };
  for (const name in texts) texts[name] = texts[name].map(minusSign);
  for (const [node, name] of [[p.x, "across"], [p.y, "down"], [p.ends, "ends"], [p.sides, "sides"]]) {
    node.replaceChildren(...texts[name].map((text) => h("span", {}, text)));
  }
  if (first) {
    p.x.style.width = width; // places of ticks are shares of it
    layTicks(p.x, "left", W, first[0], texts.across[1], each);
    layTicks(p.y, "top", H, first[1], texts.down[1], each);
  }
  p.root.classList.toggle("fv-ticked", Boolean(first));
  Object.assign(p, { say: look.say, texts });
  drawScale(p, look.key[0], sides.length > 0);
  p.scale.style.visibility = look.say ? "" : "hidden"; // without values there is no scale
}

// Ticks along an axis of `count` pixels, `each` of which stands for so many whole numbers, and its name.
function layTicks(node, side, count, first, name, each) {
  const last = (first + count) * each - 1, whole = ticks(first * each, last, 4).filter(Number.isInteger);
  const marks = whole.map((value) => {
    const mark = h("span", { className: "fv-tick" }, minusSign(value));
    mark.style[side] = 100 * ((value + 0.5) / each - first) / count + "%";
    return mark;
  });
  node.classList.toggle("fv-long", whole.some((value) => String(value).length > 3));
  node.replaceChildren(...marks, h("span", { className: "fv-axis-name" }, name));
}

// The same, with each pixel in the colour of the look.
export function drawPanel(p, frame, look) {
  framePanel(p, frame, look);
  paint(p.canvas, frame.H, frame.W, look.colour);
}

// The colour scale of a panel: 256 colours, and with `tall` their brightness downwards.
function drawScale(p, table, tall) {
  const rows = tall ? KEY_HEIGHT : 1;
  const brightness = (row) => (tall ? 1 - row / (rows - 1) : 1);
  p.scale.classList.toggle("fv-tall", tall);
  paint(p.bar, rows, 256, (n) => [table, n % 256, brightness(Math.floor(n / 256))]);
}

// Give all titles the height of the highest one, so that pictures start at one height.
export function alignTitles(panels) {
  const titles = panels.map((p) => p.title);
  for (const title of titles) title.style.minHeight = "";
  const highest = Math.max(...titles.map((title) => title.getBoundingClientRect().height));
  for (const title of titles) title.style.minHeight = highest + "px";
}
