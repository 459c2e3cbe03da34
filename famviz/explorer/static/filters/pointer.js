// Keys and pointer: choosing a filter, reading values, saving a picture.
import { saveAs, saveRows } from "../shared/dom.js";
import { onRead, onReadKeys, pixelAt } from "../shared/hover.js";
import { onKeys, onStep } from "../shared/keyboard.js";
import { clamp, num } from "../shared/numbers.js";
import { snapshot } from "../shared/snapshot.js";
import { put } from "../shared/widget.js";
import { CURVE, ringAt } from "./curve.js";
import { pairAt } from "./large.js";
import { below } from "./shade.js";
import { VIEWS, captions, words } from "./spectrum.js";
import { choose, fieldOf, readState } from "./state.js";
import { WALLS } from "./wall.js";

export function connect(app) {
  const { nav, main, second, change, curve, save } = app.ui;
  onStep(nav.canvas, ([i, j]) => stepPair(app, i, j));
  const pairUnder = (i, j) => pairAt(readState(app).L, i, j);
  nav.canvas.onclick = (event) => choose(app, ...pairUnder(...pixelAt(event, nav.canvas)));
  const forget = () => readChoice(app);
  onRead(nav, (i, j) => {
    const [out, inn] = pairUnder(i, j);
    readPixel(app, nav, `output ${out}, input ${inn}`, i, j);
  }, forget);
  for (const p of [main, second, change]) {
    const { canvas } = p;
    const read = (i, j) => {
      const k = app.shown.view === "kernel" ? "" : "k"; // pixels, or cycles per map
      const where = `${k}x ${num(j - (canvas.width >> 1), 0)}, ${k}y ${num(i - (canvas.height >> 1), 0)}`;
      readPixel(app, p, where, i, j);
    };
    onRead(p, read, forget);
    onReadKeys(p, read, forget);
  }
  for (const thumb of app.ui.thumbs) readThumb(app, thumb);
  let ring = 0;
  curve.onpointermove = curve.onpointerdown = (event) => readCurve(app, (ring = ringUnder(app, event)));
  curve.onpointerleave = (event) => event.pointerType !== "touch" && readChoice(app);
  curve.onblur = () => readChoice(app);
  onStep(curve, ([i, j]) => {
    const last = (app.curves[0]?.length ?? 1) - 1;
    readCurve(app, (ring = clamp(ring + (j || i), 0, last)));
  });
  save.onclick = () => savePicture(app);
  app.ui.values.onclick = () => saveValues(app);
  const next = (names, trait) => names[(names.indexOf(app.model.get(trait)) + 1) % names.length];
  onKeys(app.ui.root, {
    v: () => put(app, { view: next(Object.keys(VIEWS), "view") }),
    w: () => put(app, { wall: next(Object.keys(WALLS), "wall") }),
    m: () => put(app, { mean: !app.model.get("mean") }),
    "?": app.ui.help.toggle,
  });
}

function stepPair(app, i, j) {
  const s = readState(app);
  choose(app, clamp(s.out + i, 0, s.L.O - 1), clamp(s.in + j, 0, s.L.C - 1));
}

// Show the value of a pixel in the readout.
function readPixel(app, p, where, i, j) {
  app.ui.readout.textContent = `${p.title.textContent} at ${where}: ${p.say(i * p.canvas.width + j)}`;
}

// Show the line about the choice again.
function readChoice(app) {
  app.ui.readout.textContent = app.readout;
  app.ui.curve.lastChild?.setAttribute("r", 0);
}

// Read the small picture of a view under the pointer.
function readThumb(app, thumb) {
  const { canvas, view } = thumb;
  canvas.onpointermove = (event) => {
    if (!thumb.say) return;
    const [i, j] = pixelAt(event, canvas), k = view === "kernel" ? "" : "k";
    const [x, y] = [j - (canvas.width >> 1), i - (canvas.height >> 1)].map((value) => num(value, 0));
    app.ui.readout.textContent = `${VIEWS[view]} at ${k}x ${x}, ${k}y ${y}: ${thumb.say(i * canvas.width + j)}`;
  };
  canvas.onpointerleave = () => readChoice(app);
}

// The ring of the curve under the pointer.
function ringUnder({ curves, ui }, event) {
  const last = (curves[0]?.length ?? 1) - 1, box = ui.curve.getBoundingClientRect();
  const x = (event.clientX - box.left) / box.width * 300; // in units of the SVG
  return clamp(Math.round((x - CURVE.left) / (CURVE.right - CURVE.left) * last), 0, last);
}

// Show the values of a ring, and a dot on the first curve.
function readCurve(app, ring) {
  const { curves, ui, meta } = app;
  if (!curves.length) return;
  const { floor } = app.shown, last = curves[0].length - 1;
  const values = curves.map((values) => (values[ring] > floor ? num(values[ring], 1) + " dB" : below(floor)));
  if (values.length > 1) values[1] = `${meta.runs[readState(app).other]} ${values[1]}`;
  ui.readout.textContent = `ring ${ring} of ${last}: ${values.join(", ")}`;
  const dot = ui.curve.lastChild, visible = curves[0][ring] > floor;
  const [cx, cy] = visible ? ringAt(Math.max(1, last), ring, curves[0][ring], floor) : [0, 0];
  dot.setAttribute("r", visible ? 4 : 0);
  dot.setAttribute("cx", cx);
  dot.setAttribute("cy", cy);
}

// The name of a file about the choice.
function nameOf(app, s) {
  const pair = s.mean ? "all" : `${s.out}-${s.in}`, when = s.epoch ? [`epoch ${s.epoch}`] : [];
  return [app.meta.runs[0], s.L.title, ...when, pair, s.view].join("-");
}

// Save every frequency of the first run's spectrum as a CSV file.
function saveValues(app) {
  const s = readState(app), z = fieldOf(app, s.L, s);
  if (!z) return;
  const rows = Array.from(z.re, (a, n) => {
    const b = z.im[n], kx = (n % z.W) - (z.W >> 1), ky = Math.floor(n / z.W) - (z.H >> 1);
    return [kx, ky, Math.hypot(a, b).toPrecision(4), Math.atan2(b, a).toFixed(4)];
  });
  saveRows([["kx", "ky", "amplitude", "phase"], ...rows], nameOf(app, s));
}

// Save the visible panels as a PNG file.
function savePicture(app) {
  const s = readState(app), { title } = s.L, name = nameOf(app, s);
  const visible = app.ui.panels.filter((p) => !p.root.hidden);
  const caption = [`${app.meta.runs[0]}, ${title}. ${words(s)}`, captions(s, app.meta.runs)].filter(Boolean).join(" ");
  saveAs(snapshot(visible, caption), name);
}
