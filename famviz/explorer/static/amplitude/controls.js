// The elements of the page, and the state of its controls.
import { checkbox, labelled, menu, setOptions, slider } from "../shared/controls.js";
import { h } from "../shared/dom.js";
import { keepKeys, keyHelp } from "../shared/keyboard.js";
import { clamp } from "../shared/numbers.js";
import { put } from "../shared/widget.js";
import { buildCurves, putBand } from "./curves.js";
import { DIRECTIONS, STEP, hasBand } from "./grid.js";
import { buildMost } from "./images.js";
import { buildColumns } from "./planes.js";
import { buildRebuilt } from "./rebuilt.js";
import { ALL, readState } from "./state.js";

const KEYS = [
  ["← → ↑ ↓", "on a picture: read its values, with Shift by 8; on a profile: move the band, with Shift its end; "
    + "on the thumbnails: another image"],
  ["Enter", "on a spectrum: choose the ring or the wedge at the place that is read"],
  ["drag", "on a spectrum or a profile: choose rings or directions"],
  ["Esc", "no band"],
  [", .", "stage before or after"],
  ["m", "mean of all images, or the image that is shown"],
  ["d", "curves as they are, or minus the reference"],
  ["w", "window on or off"],
  ["?", "this list"],
];
const RELATIVE = [["mean", "their mean"], ["dc", "DC"], ["none", "nothing"]];
const ANGLES = Array.from({ length: DIRECTIONS }, (_, at) => [at * STEP, `${at * STEP}°`]);

export function buildPage(app) {
  const ui = {
    ...buildFields(app),
    help: keyHelp(KEYS),
    columns: buildColumns(app),
    curves: buildCurves(app),
    legend: h("div", { className: "fv-legend" }),
    rebuilt: buildRebuilt(),
    most: buildMost(app),
    mostOf: h("b"),
    shares: h("tbody"),
    sharesOf: h("b"),
    work: h("progress", { max: 1, hidden: true }),
    readout: h("output", { className: "fv-read", ariaLive: "polite" }),
    save: h("button", { title: "the spectra shown, as a PNG file" }, "save picture"),
  };
  ui.root = layOut(ui);
  keepKeys(ui.root);
  return ui;
}

function layOut(ui) {
  const { labels } = ui, pick = (...names) => names.map((name) => labels[name]);
  const upper = pick("stage", "reference", "network", "images", "image", "relative", "window", "epoch");
  ui.grid = h("div", { className: "fv-columns" }, ...Object.values(ui.columns).map(({ root }) => root));
  const profiles = h("div", { className: "fv-profiles" }, h("div", { className: "fv-bar" }, labels.profile),
    ui.legend, ui.curves.radial.root, ui.curves.angular.root);
  const band = h("div", { className: "fv-bar fv-choice" }, h("b", {}, "Band"),
    ...pick("brush", "first", "last", "from", "to"), ui.clear);
  const shares = h("div", { className: "fv-shares" }, ui.sharesOf, h("table", {}, ui.shares));
  return h("div", { className: "famviz fv-amplitude" },
    h("div", { className: "fv-bar" }, ...upper, ui.help.button), ui.help.list,
    h("div", { className: "fv-body" }, ui.grid, profiles),
    h("div", { className: "fv-say" }, ui.readout, ui.work, ui.save),
    band,
    h("div", { className: "fv-row fv-below" }, shares, h("div", { className: "fv-best" }, ui.mostOf, ui.most.root)),
    ui.rebuilt.root);
}

// The controls by the name of their trait, and the label around each.
function buildFields(app) {
  const { meta } = app, names = meta.networks.map((name) => [name, name]);
  const set = (trait) => (value) => put(app, { [trait]: value });
  const number = (use) => {
    const input = h("input", { type: "number", min: 1, step: 1 });
    input.onchange = () => use(Math.round(+input.value));
    return input;
  };
  const inputs = {
    stage: menu(meta.stages.map((name, at) => [name, `${name}, ${meta.sizes[at].join(" × ")}`]), set("stage")),
    reference: menu(names, set("reference")),
    network: menu(names, set("network")),
    images: menu([["all", `mean of all ${meta.count}`], ["one", "one image"]], (value) => chooseImages(app, value)),
    image: number((image) => chooseImage(app, image)),
    relative: menu(RELATIVE, set("relative")),
    window: checkbox(set("window")),
    epoch: slider({ min: 0, max: meta.epochs.length, step: 1 }, (at) => put(app, { epoch: meta.epochs[at] ?? 0 })),
    profile: menu([["spectrum", "spectra"], ["difference", "minus the reference"]], set("profile")),
    brush: menu([["ring", "a ring"], ["wedge", "a wedge"]], set("brush")),
    first: number((value) => chooseEnds(app, value, null)),
    last: number((value) => chooseEnds(app, null, value)),
    from: menu([["", "all"], ...ANGLES], (value) => chooseAngle(app, value, 0)),
    to: menu([["", "all"], ...ANGLES], (value) => chooseAngle(app, value, 1)),
  };
  inputs.image.min = 0;
  const clear = h("button", { title: "no band", onclick: () => putBand(app, { rings: [], angles: [] }) }, "clear");
  return { inputs, clear, labels: buildLabels(inputs, meta) };
}

function buildLabels(inputs, meta) {
  const texts = {
    stage: "stage", reference: "reference", network: "network", images: "images", image: "", relative: "relative to",
    window: "window", epoch: "epoch", profile: "curves", brush: "drag for", first: "rings", last: "to",
    from: "directions", to: "to",
  };
  const labels = {};
  for (const [name, text] of Object.entries(texts)) {
    labels[name] = labelled(name, ...(name === "window" ? [inputs[name], text] : [text, inputs[name]]));
  }
  labels.epoch.append(h("span", { className: "fv-age" }));
  labels.epoch.hidden = !meta.epochs.length;
  labels.window.title = "fade maps towards their edges, whose jump is else seen as a bright cross on the axes";
  labels.relative.title = "what is taken out of the spectrum of each image";
  labels.network.title = "whose maps and images are shown";
  labels.brush.title = "what a drag on a spectrum chooses";
  return labels;
}

function chooseImages(app, value) {
  put(app, { image: value === "all" ? ALL : readState(app).subject });
}

// The nearest image that the page holds.
function chooseImage(app, image) {
  const { images } = app.meta;
  const nearest = images.reduce((best, each) => (Math.abs(each - image) < Math.abs(best - image) ? each : best));
  put(app, { image: nearest });
}

function chooseEnds(app, first, last) {
  const { grid, band: { rings } } = readState(app), now = rings.length ? rings : [1, grid.last];
  const ends = [first ?? now[0], last ?? now[1]].map((ring) => clamp(ring || 1, 1, grid.last));
  if (ends[0] > ends[1]) ends.fill(first ?? last);
  putBand(app, { rings: ends.map((ring) => clamp(ring, 1, grid.last)) });
}

function chooseAngle(app, value, at) {
  if (value === "") return putBand(app, { angles: [] });
  const { angles } = readState(app).band, ends = angles.length ? [...angles] : [+value, +value];
  ends[at] = +value;
  putBand(app, { angles: ends });
}

// Make the controls show the present choice.
export function showControls(app, s) {
  const { inputs, labels, clear } = app.ui, { meta } = app, { rings, angles } = s.band;
  inputs.stage.value = meta.stages[s.stage];
  for (const name of ["reference", "network", "relative", "profile", "brush"]) inputs[name].value = s[name];
  const there = (name) => !s.found || s.present.includes(name);
  setOptions(inputs.reference, s.names.map((name) => [name, name, !there(name)]));
  inputs.reference.value = s.reference;
  inputs.window.checked = s.window;
  inputs.images.value = s.image === ALL ? "all" : "one";
  labels.image.hidden = s.image === ALL;
  inputs.image.max = meta.count - 1;
  if (document.activeElement !== inputs.image) inputs.image.value = s.image;
  const age = meta.epochs.indexOf(s.epoch);
  inputs.epoch.value = age < 0 ? meta.epochs.length : age;
  labels.epoch.querySelector(".fv-age").textContent = s.epoch || "end";
  for (const [name, at] of [["first", 0], ["last", 1]]) {
    inputs[name].max = s.grid.last;
    inputs[name].placeholder = "all";
    if (document.activeElement !== inputs[name]) inputs[name].value = rings[at] ?? "";
  }
  for (const [name, at] of [["from", 0], ["to", 1]]) inputs[name].value = angles[at] ?? "";
  clear.disabled = !hasBand(s.band);
}
