// The elements of the page: menus, panels and table. Nothing is drawn here but the state of the controls.
import { checkbox, menu } from "../shared/controls.js";
import { h } from "../shared/dom.js";
import { keepKeys, keyHelp } from "../shared/keyboard.js";
import { clamp } from "../shared/numbers.js";
import { panel } from "../shared/panel.js";
import { put } from "../shared/widget.js";
import { VIEWS } from "./spectrum.js";
import { chooseEpoch, readState } from "./state.js";
import { buildEffect } from "./effect.js";
import { buildTable } from "./table.js";
import { WALLS, buildWall } from "./wall.js";

const KEYS = [
  ["← → ↑ ↓", "on the map of energies: another input or output channel; in the table: another filter; on a picture: "
    + "read its values, with Shift by 8"],
  ["PageUp PageDown", "the same by 8"],
  ["click", "on the map of energies, on the wall or in the table: that filter"],
  ["v", "the next view"],
  ["w", "the wall: none, the strongest filters, those of one output channel, those of one input channel"],
  ["m", "all filters together, or one"],
  ["?", "this list"],
];
const FLOOR = { lowest: -80, highest: -5, step: 5 }; // dB
const FLOOR_TIP = "dB of the level's largest |H|: weaker values are drawn darkest in amplitudes "
  + "and hatched in phases and differences. auto: the colours range over what is shown";
const REPLAY_MS = 200; // for each epoch

export function buildPage(app) {
  const ui = {
    nav: panel("nav", { role: "application" }), main: panel("main"), second: panel("b"), change: panel("diff"),
    thumbs: Object.keys(VIEWS).map((view) => buildThumb(app, view)),
    curve: buildCurve(),
    names: h("div", { className: "fv-names" }),
    shares: h("div", { className: "fv-shares" }),
    options: h("div", { className: "fv-options" }),
    readout: h("output", { className: "fv-read", ariaLive: "polite" }),
    save: h("button", { title: "the pictures shown, as a PNG file" }, "save picture"),
    help: keyHelp(KEYS),
    values: h("button", { title: "the numbers of the large picture, as a CSV file" }, "save values"),
    wall: buildWall(app),
    effect: buildEffect(app),
    ...buildTable(app),
    ...buildControls(app),
  };
  ui.panels = [ui.nav, ui.main, ui.second, ui.change];
  ui.root = layOut(ui);
  keepKeys(ui.root);
  return ui;
}

function layOut(ui) {
  const thumbs = h("div", { className: "fv-thumbs" }, ...ui.thumbs.map((thumb) => thumb.button));
  const side = h("div", { className: "fv-side" }, thumbs, h("div", {}, ui.curve, ui.names), ui.shares);
  return h("div", { className: "famviz" },
    h("div", { className: "fv-bar" }, ...Object.values(ui.labels), ui.help.button),
    ui.help.list,
    ui.options,
    h("div", { className: "fv-row" }, ...ui.panels.map((p) => p.root), side),
    h("div", { className: "fv-say" }, ui.readout, h("span", {}, ui.save, " ", ui.values)),
    ui.wall.root, ui.effect.root, ui.tableRoot);
}

function buildCurve() {
  const svg = h("svg", { class: "fv-curve", viewBox: "0 0 300 170", role: "application", tabindex: 0 });
  svg.setAttribute("aria-label", "radial profile; arrow keys read values");
  svg.setAttribute("data-lm-suppress-shortcuts", "true");
  return svg;
}

function buildThumb(app, view) {
  const canvas = h("canvas"), onclick = () => put(app, { view });
  return { view, canvas, button: h("button", { className: "fv-thumb", title: VIEWS[view], onclick }, canvas, view) };
}

// The controls by the name of their trait, and the label around each.
function buildControls(app) {
  const { meta } = app, player = makePlayer(app), age = h("span");
  const levels = meta.levels[0].map((f, i) => [i, `${f.title}, ${[...f.channels, ...f.size].join("×")}`]);
  const inputs = {
    level: menu(levels, (value) => put(app, { level: +value })),
    view: menu(Object.keys(VIEWS).map((view) => [view, view]), (view) => put(app, { view })),
    mean: checkbox((mean) => put(app, { mean })),
    raw: checkbox((raw) => put(app, { raw })),
    other: menu([["", "nothing"], ...meta.runs.slice(1).map((name) => [name, name])], (other) => put(app, { other })),
    floor: floorInput((floor) => put(app, { floor })),
    colormap: menu(meta.colormaps.map((name) => [name, name]), (colormap) => put(app, { colormap })),
    wall: menu(Object.entries(WALLS), (wall) => put(app, { wall })),
    epoch: h("input", { type: "range", min: 0, oninput: (event) => {
      player.stop();
      chooseEpoch(app, +event.target.value);
    } }),
  };
  const play = h("button", { title: "replay how the filter formed", onclick: player.play }, "▶");
  const label = (name, text, ...more) => h("label", { className: "fv-" + name }, text, inputs[name], ...more);
  const labels = {
    level: label("level", "level"),
    view: label("view", "view"),
    mean: label("mean", "mean of all"),
    raw: label("raw", "raw"),
    other: label("other", "compare with"),
    floor: label("floor", "floor", "dB"),
    colormap: label("colormap", "colours"),
    wall: label("wall", "wall"),
    epoch: label("epoch", "epoch", play, age),
  };
  labels.floor.title = FLOOR_TIP;
  return { inputs, labels, age, stopReplay: player.stop };
}

// A floor in dB; 0 or nothing is automatic.
function floorInput(use) {
  const { lowest, highest, step } = FLOOR;
  const onchange = (event) => use(+event.target.value ? clamp(+event.target.value, lowest, highest) : 0);
  return h("input", { type: "number", min: lowest, max: 0, step, placeholder: "auto", onchange });
}

// Shows one epoch after the other; a second call of `play` stops it.
function makePlayer(app) {
  let timer = 0;
  const stop = () => {
    clearInterval(timer);
    timer = 0;
  };
  const play = () => {
    if (timer) return stop();
    const last = readState(app).L.epochs.length; // the position of the saved weights
    let at = 0;
    timer = setInterval(() => {
      chooseEpoch(app, at);
      if (at++ >= last) stop();
    }, REPLAY_MS);
  };
  return { play, stop };
}

// Make the controls show the present choice, and hide those without a use.
export function showControls(app, s) {
  const { inputs, labels, age, second, change, root } = app.ui, epochs = s.L.epochs;
  inputs.level.value = s.level;
  inputs.view.value = s.view;
  inputs.other.value = app.model.get("other");
  inputs.mean.checked = s.mean;
  inputs.raw.checked = app.model.get("raw");
  inputs.view.disabled = s.epoch > 0 && s.mean; // a root mean square has no phase
  inputs.mean.disabled = s.epoch > 0 && s.mean && !s.all; // there is nothing else
  inputs.raw.disabled = s.epoch > 0;
  inputs.epoch.max = epochs.length;
  inputs.epoch.value = s.epoch ? epochs.indexOf(s.epoch) : epochs.length;
  inputs.floor.value = s.fixed || "";
  inputs.colormap.value = app.model.get("colormap");
  inputs.wall.value = s.wall;
  age.textContent = s.epoch || "now";
  labels.raw.hidden = !s.L.raw;
  labels.other.hidden = app.meta.runs.length < 2;
  labels.epoch.hidden = !epochs.length;
  second.root.hidden = change.root.hidden = !s.B;
  root.classList.toggle("fv-two", Boolean(s.B)); // names of runs may take a second line
}
