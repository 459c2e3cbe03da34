// The share of the band in each network's energy, and the images that have most of it.
import { h } from "../shared/dom.js";
import { onStep } from "../shared/keyboard.js";
import { clamp, num } from "../shared/numbers.js";
import { put } from "../shared/widget.js";
import { styleOf } from "./curves.js";
import { isWhole } from "./grid.js";
import { ALL, bandShares, most } from "./state.js";

export const COUNT = 12; // images in the list
const SIDE = 56; // px of a thumbnail
const CHOOSE = "Drag over a spectrum or a curve to choose frequencies: their share of the energy is shown here.";

// A row for each network: share of the band, as a bar and in figures.
export function showShares(app, s) {
  const found = bandShares(app, s), { shares, sharesOf } = app.ui;
  const key = JSON.stringify([s.look, s.stage, s.band, s.image, s.reference, s.network, found?.images.length]);
  if (shares.dataset.key === key) return;
  shares.dataset.key = key;
  if (!found || isWhole(s.band)) {
    sharesOf.textContent = found ? CHOOSE : "";
    return shares.replaceChildren();
  }
  const at = found.images.indexOf(s.image), one = s.image !== ALL && at >= 0;
  const valueOf = (own) => (one ? own.each[at] : own.mean);
  const longest = Math.max(1e-9, ...Object.values(found.shares).map(valueOf));
  const first = found.shares[s.reference];
  const rows = Object.entries(found.shares).map(([name, own]) => {
    const bar = h("i", { className: "fv-bar-of " + styleOf(s, name) });
    bar.style.width = 100 * valueOf(own) / longest + "%";
    const ends = one ? "" : `[${own.interval.map((value) => num(100 * value)).join(", ")}]`;
    const ratio = first && name !== s.reference ? `× ${num(valueOf(own) / (valueOf(first) || 1e-12))}` : "";
    const onclick = () => put(app, { network: name });
    const row = h("tr", { className: name === s.network ? "fv-on" : "", onclick });
    row.append(h("td", {}, name), h("td", {}, bar), h("td", {}, num(100 * valueOf(own)) + " %"), h("td", {}, ends),
      h("td", { title: "times the share in the reference" }, ratio));
    return row;
  });
  const of = one ? `image ${s.image}` : `mean of ${found.images.length} images`;
  sharesOf.textContent = `Share of the energy apart from DC, ${of}` + (one ? "" : ", with its 95 % interval");
  shares.replaceChildren(...rows);
}

export function buildMost(app) {
  const root = h("div", { className: "fv-most" });
  onStep(root, ([i, j]) => {
    const buttons = [...root.children], now = buttons.indexOf(document.activeElement);
    const next = buttons[clamp(now + (i || j), 0, buttons.length - 1)];
    next?.focus();
    next?.click();
  });
  return { root, buttons: new Map() };
}

// Thumbnails in the order of the band's share; those of images that have not come are empty.
export function showMost(app, s) {
  const { root, buttons } = app.ui.most, list = most(app, s, COUNT), whole = isWhole(s.band);
  const nodes = list.map(([image, share]) => {
    if (!buttons.has(image)) buttons.set(image, buildThumb(app, image));
    const { button, canvas, words } = buttons.get(image), thumb = app.thumbs.get(image);
    words.textContent = whole ? `${image}` : `${num(100 * share, 1)} %`;
    button.setAttribute("aria-pressed", image === s.image);
    const said = whole ? "" : `: ${num(100 * share)} % of the energy`;
    button.title = `image ${image}${thumb?.label ? `, ${thumb.label}` : ""}${said}`;
    if (thumb?.bitmap && !canvas.dataset.seq) drawThumb(canvas, thumb.bitmap);
    return button;
  });
  const same = nodes.length === root.children.length && nodes.every((node, at) => node === root.children[at]);
  if (!same) replaceKeepingFocus(root, nodes);
  const of = whole ? "Images" : `Images with most of it in ${s.network}`;
  app.ui.mostOf.textContent = list.length ? `${of}: the first ${list.length}` : "";
}

// Moving a button in the page takes the focus from it.
function replaceKeepingFocus(root, nodes) {
  const focused = document.activeElement, held = root.contains(focused);
  root.replaceChildren(...nodes);
  if (held && nodes.includes(focused)) focused.focus();
}

function buildThumb(app, image) {
  const canvas = h("canvas", { width: SIDE, height: SIDE }), words = h("span");
  const onclick = () => put(app, { image });
  return { canvas, words, button: h("button", { className: "fv-thumb", onclick }, canvas, words) };
}

function drawThumb(canvas, bitmap) {
  const ratio = window.devicePixelRatio || 1, side = Math.round(SIDE * ratio);
  Object.assign(canvas, { width: side, height: side });
  const scale = side / Math.max(bitmap.width, bitmap.height), w = bitmap.width * scale, t = bitmap.height * scale;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = scale < 2 * ratio;
  context.drawImage(bitmap, (side - w) / 2, (side - t) / 2, w, t);
  canvas.dataset.seq = 1;
}
