// A scatter plot in SVG with axes. Points can be read and chosen by mouse, finger and arrow keys.
import { h } from "../shared/dom.js";
import { onStep } from "../shared/keyboard.js";
import { clamp, minusSign, ticks } from "../shared/numbers.js";

const AREA = { left: 44, right: 10, top: 8, bottom: 34 }; // px around the points
const NEAR = 14; // px from a point that still mean it

// `tell(point)` is called for the point under the pointer, `forget()` when there is none, `choose(point)` on a click.
export function makePlot({ width, height, label, tell, forget, choose }) {
  const svg = h("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "application", tabindex: 0 });
  svg.setAttribute("data-lm-suppress-shortcuts", "true");
  svg.setAttribute("aria-label", label);
  svg.setAttribute("class", "fv-scatter");
  const plot = { root: svg, width, height, points: [], places: [], shown: "", chosen: null };
  const near = (event) => nearest(plot, event);
  svg.addEventListener("pointermove", (event) => {
    const point = near(event);
    svg.style.cursor = point ? "pointer" : "";
    return point ? tell(point) : forget();
  });
  svg.addEventListener("pointerleave", forget);
  svg.addEventListener("click", (event) => {
    const point = near(event);
    if (point) choose(point);
  });
  onStep(svg, ([i, j]) => {
    const next = neighbour(plot, i, j);
    if (next) choose(next);
  });
  return plot;
}

// Draw points {x, y, id, kind} with axes {low, high, label}; they are built again only if `key` changed.
export function showPlot(plot, key, axes, points, chosen) {
  if (plot.shown !== key) {
    plot.shown = key;
    plot.points = points;
    plot.places = points.map(({ x, y }) => [across(plot, axes.x, x), down(plot, axes.y, y)]);
    const dots = points.map(({ kind }, n) => {
      const [cx, cy] = plot.places[n];
      return h("circle", { cx: cx.toFixed(1), cy: cy.toFixed(1), r: 3.5, class: "fv-dot fv-" + kind });
    });
    plot.mark = h("circle", { r: 0, class: "fv-chosen" });
    plot.root.replaceChildren(...frame(plot, axes), ...dots, plot.mark);
  }
  plot.chosen = plot.points.findIndex(({ id }) => id === chosen);
  const place = plot.places[plot.chosen];
  plot.mark.setAttribute("r", place ? 7 : 0);
  if (place) for (const [k, name] of ["cx", "cy"].entries()) plot.mark.setAttribute(name, place[k]);
}

function across({ width }, { low, high }, value) {
  return AREA.left + (value - low) / (high - low || 1) * (width - AREA.left - AREA.right);
}

function down({ height }, { low, high }, value) {
  return height - AREA.bottom - (value - low) / (high - low || 1) * (height - AREA.top - AREA.bottom);
}

function frame(plot, { x, y }) {
  const { width, height } = plot, bottom = height - AREA.bottom, nodes = [];
  const text = (px, py, words, anchor, more = {}) => nodes.push(
    h("text", { x: px, y: py, "text-anchor": anchor, ...more }, minusSign(words)));
  let lines = `M${AREA.left} ${AREA.top}V${bottom}H${width - AREA.right}`;
  for (const value of ticks(x.low, x.high)) {
    const px = across(plot, x, value);
    lines += `M${px} ${bottom}v4`;
    text(px, bottom + 14, value, "middle");
  }
  for (const value of ticks(y.low, y.high)) {
    const py = down(plot, y, value);
    lines += `M${AREA.left} ${py}h-4`;
    text(AREA.left - 7, py + 3, value, "end");
  }
  text((AREA.left + width) / 2, height - 4, x.label, "middle");
  const middle = (AREA.top + bottom) / 2;
  text(11, middle, y.label, "middle", { transform: `rotate(-90 11 ${middle})` });
  return [h("path", { d: lines, class: "fv-axis" }), ...nodes];
}

function nearest(plot, event) {
  const box = plot.root.getBoundingClientRect(), scale = plot.width / box.width;
  const px = (event.clientX - box.left) * scale, py = (event.clientY - box.top) * scale;
  let best = -1, least = NEAR;
  plot.places.forEach(([x, y], n) => {
    const distance = Math.hypot(x - px, y - py);
    if (distance < least) [best, least] = [n, distance];
  });
  return plot.points[best];
}

// The next point to the left or right, or up or down, in the order of that axis.
function neighbour(plot, i, j) {
  const axis = j ? 0 : 1, step = j || i;
  const order = plot.places.map((place, n) => [place[axis], n]).sort((a, b) => a[0] - b[0]).map(([, n]) => n);
  const now = order.indexOf(plot.chosen);
  return plot.points[order[now < 0 ? 0 : clamp(now + step, 0, order.length - 1)]];
}
