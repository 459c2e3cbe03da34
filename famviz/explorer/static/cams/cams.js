// The CAM explorer of famviz: a wall of images, and for the chosen one the maps of all networks, side by side.
// One module for two hosts: anywidget in a notebook, and a saved page, which holds the messages of the kernel.
import { countDrawing, saveAs } from "../shared/dom.js";
import { markPixel, onRead, onReadKeys } from "../shared/hover.js";
import { onKeys } from "../shared/keyboard.js";
import { clamp } from "../shared/numbers.js";
import { alignTitles } from "../shared/panel.js";
import { snapshot } from "../shared/snapshot.js";
import { put, widget } from "../shared/widget.js";
import { answered, ask, makeAsker } from "./ask.js";
import { buildPage, showControls, showPages } from "./controls.js";
import { drawMap, drawPicture, ranges, wordsOf } from "./maps.js";
import { makeApp, readState, receive } from "./state.js";
import { showFigures, showList, showScatter } from "./tables.js";
import { showViews } from "./views.js";
import { aboutImage, connectWall, drawWall, layWall, turnTo } from "./wall.js";

const WIDE = 860; // px from which the wall stands beside the maps
const LEFT = 346; // px of the wall then
const BOX = { least: 110, most: 300, gap: 16, edge: 12, scale: 130 }; // px of a picture, and the least of its scale

function connect(app) {
  const { ui } = app;
  app.tell = (words) => (ui.readout.textContent = words);
  app.forget = () => (ui.readout.textContent = app.readout);
  const choose = (image) => put(app, { image });
  connectWall(app, { choose, tell: app.tell, forget: app.forget });
  for (const p of panels(app)) {
    const read = (i, j) => readPlace(app, i, j);
    const forget = () => forgetPlace(app);
    onRead(p, read, forget);
    onReadKeys(p, read, forget);
  }
  onKeys(ui.root, {
    o: () => {
      app.hidden = !app.hidden;
      app.redraw();
    },
    s: () => put(app, { scale: app.model.get("scale") === "shared" ? "own" : "shared" }),
    "?": ui.help.toggle,
  });
  ui.save.onclick = () => savePicture(app);
  makeAsker(app);
}

const panels = ({ ui }) => [ui.picture, ...Object.values(ui.maps)];

// The values of all networks at one place of the image.
function readPlace(app, i, j) {
  const s = readState(app), [, W] = app.meta.size, n = i * W + j;
  const drawn = s.shown ? s.names.filter((name) => s.shown[name].values) : [];
  const said = drawn.map((name) => `${name} ${wordsOf(s.shown[name], n)}`);
  app.tell(`x ${j}, y ${i}: ${said.join("; ") || "no map"}`);
  for (const p of panels(app)) markPixel(p, i, j);
}

function forgetPlace(app) {
  app.forget();
  for (const p of panels(app)) p.marks.replaceChildren();
}

function draw(app) {
  layOut(app);
  const s = readState(app), { ui } = app, box = boxOf(app);
  turnTo(app, s);
  showControls(app, s);
  showPages(app, s);
  drawWall(app, s);
  drawPicture(app, s, ui.picture, box);
  ui.root.classList.toggle("fv-wait", !s.shown);
  if (s.shown && app.pictures.get(s.image)) drawMaps(app, s, box);
  showScatter(app, s);
  showList(app, s);
  showViews(app, s);
  alignTitles(panels(app));
  app.readout = ui.readout.textContent = readoutOf(app, s);
  countDrawing(ui.root);
  ask(app.asker);
}

function drawMaps(app, s, box) {
  const ends = ranges(s, app.meta.size);
  for (const name of s.names) drawMap(app, s, app.ui.maps[name], name, box, ends[name]);
  showFigures(app, s);
  app.ui.root.dataset.image = s.image; // of which maps are drawn
}

function readoutOf(app, s) {
  if (app.failed) return app.failed;
  if (!s.shown) return app.meta.alone ? "This page does not hold the maps of this image." : "computing the maps …";
  return aboutImage(app, s, s.image);
}

// The wall beside the maps if there is room, else above them in fewer rows.
function layOut(app) {
  const width = app.width || 960, wide = width >= WIDE;
  app.ui.root.classList.toggle("fv-wide", wide);
  layWall(app, wide ? LEFT : width, wide ? 7 : 3);
}

// The larger side of a picture in px, so that all stand in one row if they can, else as many as fit.
function boxOf(app) {
  const width = app.width || 960, room = width >= WIDE ? width - LEFT - 24 : width;
  const across = Math.max(1, Math.floor(room / (BOX.scale + BOX.gap + BOX.edge)));
  const count = Math.min(across, 1 + app.meta.networks.length);
  return clamp(Math.floor((room - count * BOX.gap) / count - BOX.edge), BOX.least, BOX.most);
}

function savePicture(app) {
  const s = readState(app), how = `${s.method}${s.layer && ` at ${s.layer}`}, colours ${s.scale}`;
  const caption = `${how}. ${aboutImage(app, s, s.image)}.`;
  saveAs(snapshot(panels(app), caption), ["cams", `image ${s.image}`, s.method].join("-"));
}

export default widget({
  traits: ["image", "method", "layer", "target", "scale", "blend", "top", "areas", "other", "only_class", "only",
    "only_answer", "agreement", "order", "figure", "plot", "of", "view"],
  make: makeApp,
  build: buildPage,
  connect,
  draw,
  receive(app, content, buffers) {
    receive(app, content, buffers);
    answered(app.asker, content);
  },
});
