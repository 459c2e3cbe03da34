// What is drawn over a spectrum, and how the branches share their energy.
import { h } from "../shared/dom.js";
import { num, percent } from "../shared/numbers.js";
import { edges } from "../shared/resample.js";

// The edge of the high-pass, where its gain crosses one half, and a dot at DC.
export function outline(lines, { H, W, gain }) {
  const path = edges(H, W, (n) => gain[n] >= 128, true);
  const dc = h("circle", { cx: (W >> 1) + 0.5, cy: (H >> 1) + 0.5, r: Math.min(H, W) / 80 });
  lines.replaceChildren(h("path", { d: path }), dc);
}

// Bars of how much energy each branch carries, one for each run that has two branches.
export function shareBars(s, levels) {
  const two = levels.filter(([, L]) => L.share != null);
  if (!two.length) return [];
  const heading = `whole level${s.epoch ? " as saved" : ""}, on white input (not on images):`;
  return [heading, ...two.map(([name, L]) => shareBar(s.B ? name + ": " : "", L))];
}

function shareBar(prefix, L) {
  const global = h("span", {}, `global ${percent(L.share)} (γ ${num(L.gamma[0], 3)})`);
  const local = h("span", { className: "fv-local" }, `local ${percent(1 - L.share)} (γ ${num(L.gamma[1], 3)})`);
  const bar = h("div", { className: "fv-share" }, prefix, global, " ", local);
  bar.style.setProperty("--part", 100 * L.share + "%");
  return bar;
}
