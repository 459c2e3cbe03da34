// Curves of dB over rings of equal frequency, in an SVG of 300 x 170.
import { h } from "../shared/dom.js";
import { num } from "../shared/numbers.js";

export const CURVE = { left: 34, right: 290, top: 10, bottom: 138 }; // of the axes, in units of the SVG

// Where a ring of a curve lies that has `last` rings above DC.
export function ringAt(last, ring, value, floor) {
  const x = CURVE.left + ring / last * (CURVE.right - CURVE.left);
  const y = CURVE.top + value / floor * (CURVE.bottom - CURVE.top);
  return [x, y];
}

// Radial curves in dB, with their axes and a dot for the pointer.
export function drawCurves(svg, curves, floor) {
  const last = Math.max(1, curves[0].length - 1);
  const text = (x, y, word, anchor = "end") => h("text", { x, y, "text-anchor": anchor }, String(word));
  const lines = curves.map((values, i) => h("path", { d: curvePath(values, last, floor), class: "fv-line" + i }));
  svg.replaceChildren(
    h("path", { d: `M${CURVE.left} ${CURVE.top}V${CURVE.bottom}H${CURVE.right}`, class: "fv-axis" }),
    text(30, 14, 0), text(30, 141, num(floor, 0)), text(30, 78, "dB"),
    text(37, 152, 0), text(293, 152, last), text(162, 165, "radial frequency, cycles per map", "middle"),
    ...lines, h("circle", { r: 0 }));
}

// What is at or below the floor, such as a ring that the high-pass empties, has no line.
function curvePath(values, last, floor) {
  let path = "";
  values.forEach((value, ring) => {
    if (!(value > floor)) return;
    const [x, y] = ringAt(last, ring, value, floor);
    const continues = values[ring - 1] > floor;
    path += continues ? `L${x} ${y}` : `M${x} ${y}h0`; // h0 shows a single ring as a dot
  });
  return path;
}
