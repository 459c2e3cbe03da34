// What the chosen filter does to an image: each step as a map, and its spectrum below.
import { shadeSigned } from "../shared/colour.js";
import { h } from "../shared/dom.js";
import { onRead, onReadKeys } from "../shared/hover.js";
import { clamp, largest, num, weight } from "../shared/numbers.js";
import { drawPanel, panel } from "../shared/panel.js";
import { bytesOf, put } from "../shared/widget.js";

const BOX = 118; // px of a picture
const DEEPEST = -60; // dB
const WEAK = 0.02; // share of the amplitudes that lie below the colours

export function buildEffect(app) {
  const image = h("input", { type: "number", min: 0, step: 1, title: "position among the test images of the run" });
  image.onchange = () => put(app, { image: image.value === "" ? -1 : Math.max(0, Math.floor(+image.value)) });
  const picture = h("img", { className: "fv-photo-small", alt: "" }), words = h("span", { ariaLive: "polite" });
  const row = h("div", { className: "fv-row fv-steps" });
  const show = h("button", { onclick: () => put(app, { image: 0 }) }, "show");
  const hide = h("button", { onclick: () => put(app, { image: -1 }) }, "hide");
  const bar = h("div", { className: "fv-bar" }, h("b", {}, "What this filter does to an image"), show,
    h("label", {}, "image", image), hide, picture, words);
  const effect = { root: h("div", { className: "fv-effect" }, bar, row), image, picture, words, row, show, hide };
  return Object.assign(effect, { columns: [], key: "", url: "" });
}

const keyOf = ({ level, image, c_out, c_in }) => [level, image, c_out, c_in].join();

// What the kernel answered.
export function receiveEffect(app, content, buffers) {
  if (content.kind !== "effect") return;
  const floats = (at) => new Float32Array(bytesOf(buffers[at]).slice().buffer);
  const withMaps = (step, n) => ({ ...step, map: floats(2 * n + 1), spectrum: floats(2 * n + 2) });
  const steps = (content.steps ?? []).map(withMaps);
  app.effects.set(keyOf(content), { ...content, steps, picture: buffers[0] && bytesOf(buffers[0]) });
  app.asking = "";
}

export function showEffect(app, s) {
  const { effect } = app.ui, image = app.model.get("image"), on = image >= 0;
  const wanted = { level: s.level, image, c_out: s.out, c_in: s.in }, key = keyOf(wanted), found = app.effects.get(key);
  effect.root.hidden = app.meta.alone && !app.effects.size;
  effect.show.hidden = on;
  for (const node of [effect.row, effect.image.parentNode, effect.hide, effect.picture]) node.hidden = !on;
  effect.image.value = on ? image : "";
  if (!on) return (effect.words.textContent = "");
  if (!found) {
    effect.words.textContent = app.meta.alone ? "This page does not hold this filter or image." : "computing …";
    effect.root.classList.add("fv-wait");
    if (!app.meta.alone && app.asking !== key) app.model.send({ ask: "effect", ...wanted });
    app.asking = key;
    return;
  }
  effect.root.classList.remove("fv-wait");
  const said = `${found.label}; output ${s.out}, input ${s.in}` + (s.epoch ? ", with the saved weights" : "");
  effect.words.textContent = found.failed ? `There is none: ${found.failed}` : said;
  if (effect.key !== key + app.model.get("colormap")) drawSteps(app, s, effect, found);
  effect.key = key + app.model.get("colormap");
}

function drawSteps(app, s, effect, { steps, picture, label }) {
  URL.revokeObjectURL(effect.url);
  effect.url = picture ? URL.createObjectURL(new Blob([picture])) : "";
  Object.assign(effect.picture, { src: effect.url, alt: label ?? "", hidden: !picture });
  while (effect.columns.length < steps.length) effect.columns.push(buildColumn(app));
  effect.row.replaceChildren(...effect.columns.slice(0, steps.length).map((column) => column.root));
  const look = rangeOf(steps);
  steps.forEach((step, n) => drawStep(app, s, effect.columns[n], step, look));
}

function buildColumn(app) {
  const map = panel("step"), spectrum = panel("step");
  for (const [p, name] of [[map, "x"], [spectrum, "kx"]]) {
    const read = (i, j) => {
      const { width, height } = p.canvas, k = name === "kx";
      const [x, y] = k ? [j - (width >> 1), i - (height >> 1)] : [j, i];
      const where = `${k ? "k" : ""}x ${num(x, 0)}, ${k ? "k" : ""}y ${num(y, 0)}`;
      app.ui.readout.textContent = `${map.title.textContent} at ${where}: ${p.say(i * width + j)}`;
    };
    const forget = () => (app.ui.readout.textContent = app.readout);
    onRead(p, read, forget);
    onReadKeys(p, read, forget);
  }
  return { map, spectrum, root: h("div", {}, map.root, spectrum.root) };
}

// One range of dB for all spectra: from the largest amplitude to what hardly any is below.
function rangeOf(steps) {
  const values = steps.flatMap(({ spectrum }) => Array.from(spectrum)).filter((value) => value > 0);
  values.sort((a, b) => a - b);
  const reference = values.at(-1) ?? 1, weak = values[Math.floor(values.length * WEAK)] ?? reference;
  return { reference, floor: clamp(Math.floor(4 * Math.log10(weak / reference)) * 5, DEEPEST, -5) };
}

function drawStep(app, s, { map, spectrum }, step, { reference, floor }) {
  const [H, W] = step.size, top = largest(step.map) || 1;
  drawPanel(map, { box: BOX, H, W, title: step.name, first: [0, 0], across: [0, "", W - 1], down: [0, "", H - 1] },
    shadeSigned(app.tables.signed, step.map, top, weight, ""));
  const db = Array.from(step.spectrum, (value) => 20 * Math.log10(value / reference || 1e-30));
  const across = [-(W >> 1), "kx", W - (W >> 1) - 1], down = [-(H >> 1), "ky", H - (H >> 1) - 1];
  drawPanel(spectrum, { box: BOX, H, W, title: "spectrum", first: [across[0], down[0]], across, down }, {
    key: [s.colours, num(floor, 0) + " dB", "0 dB is " + reference.toPrecision(3)],
    say: (n) => `|F| ${weight(step.spectrum[n])}, ${num(db[n], 1)} dB`,
    colour: (n) => [s.colours, Math.round(clamp(1 - db[n] / floor, 0, 1) * 255)],
  });
}
