// Curves over rings or directions with their bands, in SVG. A drag chooses a range; pointer and arrow keys read values.
import { h } from "../shared/dom.js";
import { clamp, minusSign, ticks } from "../shared/numbers.js";

const AREA = { left: 42, right: 8, top: 20, bottom: 32 }; // px around the curves
const SIZE = { width: 340, height: 190 };
const STEPS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 };

// `choose(first, last)` is called with positions on the axis for a drag, `step(by, grow)` for an arrow key, with shift
// `grow`; `tell(position)` for the place under the pointer, `forget()` when it leaves.
export function makeProfile({ label, choose, step, tell, forget }) {
  const svg = h("svg", { viewBox: `0 0 ${SIZE.width} ${SIZE.height}`, role: "application", tabindex: 0 });
  svg.setAttribute("data-lm-suppress-shortcuts", "true");
  svg.setAttribute("aria-label", label);
  svg.setAttribute("class", "fv-diagram");
  const profile = { root: svg, axis: null, shown: "", from: null };
  svg.addEventListener("pointermove", (event) => {
    const at = positionAt(profile, event);
    if (at == null) return;
    if (profile.from != null) choose(Math.min(at, profile.from), Math.max(at, profile.from));
    tell(at);
    mark(profile, at);
  });
  svg.addEventListener("pointerdown", (event) => {
    const at = positionAt(profile, event);
    if (at == null || event.button) return;
    profile.from = at;
    svg.setPointerCapture(event.pointerId);
    choose(at, at);
  });
  for (const name of ["pointerup", "pointercancel"]) svg.addEventListener(name, () => (profile.from = null));
  svg.addEventListener("pointerleave", () => {
    profile.mark?.setAttribute("d", "");
    forget();
  });
  svg.addEventListener("keydown", (event) => {
    if (!(event.key in STEPS) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    step(STEPS[event.key], event.shiftKey);
  });
  return profile;
}

// Draw lines {name, values, low, high, style} over the positions of an axis {positions, label, texts, unit, title,
// ranges}; `ranges` are the pairs of positions that are chosen. What is NaN has no line. The key says what is shown.
export function showProfile(profile, key, axis, lines) {
  if (profile.shown === key) return;
  profile.shown = key;
  profile.axis = axis;
  const [low, high] = heights(lines), y = (value) => down(low, high, value), x = (at) => across(axis, at);
  const banded = lines.filter((line) => line.low);
  profile.mark = h("path", { d: "", class: "fv-mark" });
  profile.root.replaceChildren(
    ...axis.ranges.map(([first, last]) => chosenRange(axis, first, last)),
    ...frame(axis, low, high),
    ...banded.map((line) => h("path", { d: area(line, x, y), class: `fv-band ${line.style}` })),
    ...lines.map((line) => h("path", { d: path(line.values, x, y), class: `fv-curve ${line.style}` })),
    profile.mark);
}

// The values that the axis of dB has to show, with a little room.
function heights(lines) {
  const all = lines.flatMap(({ values, low, high }) => [...values, ...(low ?? []), ...(high ?? [])])
    .filter((value) => !Number.isNaN(value));
  const least = Math.min(...all), greatest = Math.max(...all), room = 0.06 * (greatest - least) || 0.5;
  return all.length ? [least - room, greatest + room] : [-1, 1];
}

function across({ positions }, at) {
  const last = Math.max(1, positions.length - 1);
  return AREA.left + 8 + at / last * (SIZE.width - AREA.left - AREA.right - 16);
}

const down = (low, high, value) =>
  SIZE.height - AREA.bottom - (value - low) / (high - low) * (SIZE.height - AREA.top - AREA.bottom);

function path(values, x, y) {
  let text = "";
  values.forEach((value, at) => {
    if (Number.isNaN(value)) return;
    const continues = at > 0 && !Number.isNaN(values[at - 1]);
    text += `${continues ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}${continues ? "" : "h0"}`;
  });
  return text;
}

// The band between two curves, piece by piece between positions that have values.
function area({ low, high }, x, y) {
  let text = "";
  for (let at = 1; at < low.length; at++) {
    if (Number.isNaN(low[at]) || Number.isNaN(low[at - 1])) continue;
    const [a, b] = [x(at - 1).toFixed(1), x(at).toFixed(1)], to = (value) => y(value).toFixed(1);
    text += `M${a} ${to(low[at - 1])}L${b} ${to(low[at])}L${b} ${to(high[at])}L${a} ${to(high[at - 1])}Z`;
  }
  return text;
}

function chosenRange(axis, first, last) {
  const half = (across(axis, 1) - across(axis, 0)) / 2, height = SIZE.height - AREA.top - AREA.bottom;
  const left = Math.max(AREA.left, across(axis, first) - half);
  const right = Math.min(SIZE.width - AREA.right, across(axis, last) + half);
  return h("rect", { x: left, y: AREA.top, width: right - left, height, class: "fv-range" });
}

function frame(axis, low, high) {
  const bottom = SIZE.height - AREA.bottom, right = SIZE.width - AREA.right, nodes = [];
  const text = (px, py, words, anchor, more = {}) => nodes.push(
    h("text", { x: px, y: py, "text-anchor": anchor, ...more }, minusSign(words)));
  let lines = `M${AREA.left} ${AREA.top}V${bottom}H${right}`;
  for (const value of ticks(low, high)) {
    const py = down(low, high, value);
    lines += `M${AREA.left} ${py}h-4`;
    text(AREA.left - 7, py + 3, value, "end");
  }
  let zero = "";
  if (low < 0 && high > 0) zero = `M${AREA.left} ${down(low, high, 0)}H${right}`;
  for (const [at, words] of axis.texts) {
    lines += `M${across(axis, at)} ${bottom}v4`;
    text(across(axis, at), bottom + 14, words, "middle");
  }
  text((AREA.left + SIZE.width) / 2, SIZE.height - 3, axis.label, "middle");
  text(AREA.left - 34, 11, axis.title, "start");
  return [h("path", { d: lines, class: "fv-axis" }), h("path", { d: zero, class: "fv-zero" }), ...nodes];
}

// The position on the axis that is nearest to the pointer.
function positionAt(profile, event) {
  if (!profile.axis) return null;
  const box = profile.root.getBoundingClientRect(), px = (event.clientX - box.left) / box.width * SIZE.width;
  const last = profile.axis.positions.length - 1;
  const start = across(profile.axis, 0), room = across(profile.axis, Math.max(1, last)) - start;
  return clamp(Math.round((px - start) / room * Math.max(1, last)), 0, last);
}

function mark(profile, at) {
  const x = across(profile.axis, at).toFixed(1);
  profile.mark.setAttribute("d", `M${x} ${AREA.top}V${SIZE.height - AREA.bottom}`);
}
