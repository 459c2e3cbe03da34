// The elements of the page, and the state of its controls.
import { checkbox, labelled, menu, setOptions, slider } from "../shared/controls.js";
import { h } from "../shared/dom.js";
import { keepKeys, keyHelp } from "../shared/keyboard.js";
import { num } from "../shared/numbers.js";
import { makeTable } from "../shared/table.js";
import { put } from "../shared/widget.js";
import { buildPanel } from "./maps.js";
import { makePlot } from "./plot.js";
import { aboutImage, buildLegend, buildWall } from "./wall.js";
import { called, readState } from "./state.js";
import { buildViews } from "./views.js";

const KEYS = [
  ["← → ↑ ↓", "on the wall or in the list: another image; on a picture: read its values, with Shift by 8; "
    + "in the diagram: the next image along that axis"],
  ["PageUp PageDown Home End", "on the wall: another page, the first and the last image"],
  ["o", "maps on or off"],
  ["s", "colours shared by all networks, or each its own"],
  ["?", "this list"],
];
const PLOT = { width: 340, height: 250 }; // px
const OTHER_CLASS = "class";

export function buildPage(app) {
  const { names } = readState(app), fields = buildFields(app);
  const ui = {
    ...fields,
    help: keyHelp(KEYS),
    wall: buildWall(),
    legend: buildLegend(app.meta),
    pages: buildPages(app),
    picture: buildPanel("picture"),
    maps: Object.fromEntries(names.map((name) => [name, buildPanel("map")])),
    readout: h("output", { className: "fv-read", ariaLive: "polite" }),
    save: h("button", { title: "the pictures shown, as a PNG file" }, "save picture"),
    figures: h("div", { className: "fv-figures" }),
    none: h("p", { className: "fv-hint", hidden: true }, "No image here has both figures yet."),
    plot: buildPlot(app),
    list: buildList(app),
    views: buildViews(app),
  };
  ui.root = layOut(ui);
  keepKeys(ui.root);
  return ui;
}

function layOut(ui) {
  const { labels } = ui, pick = (...names) => names.map((name) => labels[name]);
  const upper = pick("method", "layer", "target", "search", "scale", "blend", "top", "areas");
  const lower = pick("class", "answer", "only", "agreement", "other", "order");
  const filters = h("div", { className: "fv-bar" }, ...lower);
  const left = h("div", { className: "fv-left" }, filters, ui.wall, ui.legend.root, ui.pages.root);
  const row = h("div", { className: "fv-row fv-maps" }, ui.picture.root, ...Object.values(ui.maps).map((p) => p.root));
  const diagram = h("div", { className: "fv-diagram" },
    h("div", { className: "fv-bar" }, ...pick("figure", "plot", "of")), ui.plot.root, ui.none);
  const list = h("div", { className: "fv-list" }, ui.figures, h("b", {}, "Where they disagree most"), ui.list.root);
  const right = h("div", { className: "fv-right" }, row,
    h("div", { className: "fv-say" }, ui.readout, ui.save),
    h("div", { className: "fv-row fv-below" }, list, diagram), ui.views.root);
  return h("div", { className: "famviz fv-cams" },
    h("div", { className: "fv-bar" }, ...upper, ui.help.button), ui.help.list,
    h("div", { className: "fv-body" }, left, right));
}

// The controls by the name of their trait, and the label around each.
function buildFields(app) {
  const { meta } = app, names = meta.networks.map((name) => [name, name]);
  const others = names.filter((_, n) => n !== meta.reference);
  const set = (trait) => (value) => put(app, { [trait]: value });
  const aboutClass = (value) => put(app, { target: value === OTHER_CLASS ? String(shownClass(app)) : value });
  const classes = h("datalist", { id: `fv-classes-${Math.random().toString(36).slice(2)}` },
    ...meta.classes.map((name) => h("option", { value: name })));
  const search = (use) => {
    const input = h("input", { type: "search", size: 16, placeholder: "any" });
    input.title = "name or number of a class";
    input.setAttribute("list", classes.id);
    input.onchange = () => use(classOf(app, input.value));
    return input;
  };
  const inputs = {
    method: menu(meta.methods.map((name) => [name, name]), set("method")),
    layer: menu(meta.layers, set("layer")),
    target: menu([], aboutClass),
    search: search((label) => label >= 0 && put(app, { target: String(label) })),
    scale: menu([["shared", "shared"], ["own", "each its own"]], set("scale")),
    blend: slider({}, set("blend")),
    top: slider({ min: 0.01, max: 0.9 }, set("top")),
    areas: checkbox(set("areas")),
    class: search((label) => put(app, { only_class: label })),
    answer: search((label) => put(app, { only_answer: label })),
    only: menu(meta.only.map((name) => [name, name]), set("only")),
    agreement: menu([["all", "any"], ["low", "lowest quarter"], ["high", "highest quarter"]], set("agreement")),
    other: menu(others.length ? others : names, set("other")),
    order: menu([["position", "position"], ["agreement", "agreement, lowest first"],
      ["confidence", "confidence, lowest first"]], set("order")),
    figure: menu([["rank correlation", "rank correlation"], ["IoU", "IoU, top 20 %"]], set("figure")),
    plot: menu([["confidence", "against confidence of"], ["embedding", "or embedding of"],
      ["confidences", "or confidence of both"]], set("plot")),
    of: menu(names, set("of")),
  };
  return { inputs, labels: buildLabels(inputs, classes) };
}

function buildLabels(inputs, classes) {
  const texts = {
    method: "method", layer: "layer", target: "class", search: "", scale: "colours", blend: "over the image",
    top: "outline", areas: "insertion and deletion", class: "class", answer: "taken for", only: "answers",
    agreement: "agreement", other: "with", order: "order", figure: "", plot: "", of: "",
  };
  const labels = {};
  for (const [name, text] of Object.entries(texts)) {
    const first = ["areas"].includes(name) ? [inputs[name], text] : [text, inputs[name]];
    labels[name] = labelled(name, ...first, ...(name === "top" ? [h("span", { className: "fv-percent" })] : []));
  }
  labels.search.append(classes);
  labels.blend.title = "how much of the picture the colours of a map replace";
  labels.top.title = "the share of the pixels with the strongest evidence, which is outlined";
  labels.areas.title = "of the chosen image: many forward passes for each network";
  labels.other.title = "the network that is compared with the reference";
  labels.answer.title = "the class that the compared network says";
  labels.agreement.title = "of the images whose maps are known";
  return labels;
}

// The index of a class by its name, its beginning or its number; -1 for none.
function classOf(app, text) {
  const wanted = text.trim().toLowerCase(), { classes } = app.meta;
  if (!wanted) return -1;
  if (/^\d+$/.test(wanted)) return +wanted < app.meta.count_of_classes ? +wanted : -1;
  const exact = classes.findIndex((name) => name.toLowerCase() === wanted);
  return exact >= 0 ? exact : classes.findIndex((name) => name.toLowerCase().startsWith(wanted));
}

// A class to begin with when one is to be chosen: what the reference says of the image.
function shownClass(app) {
  const s = readState(app);
  return app.facts.get(s.image)?.predicted[s.reference] ?? 0;
}

function buildPages(app) {
  const turn = (by) => () => {
    app.first = Math.max(0, app.first + by * app.cells);
    app.redraw();
  };
  const pause = () => {
    app.paused = !app.paused;
    app.redraw();
  };
  const pages = {
    back: h("button", { title: "page before", onclick: turn(-1) }, "◀"),
    on: h("button", { title: "next page", onclick: turn(1) }, "▶"),
    count: h("span"),
    bar: h("progress", { max: 1 }),
    done: h("span"),
    pause: h("button", { onclick: pause }),
  };
  const { back, on, count, bar, done } = pages;
  const work = h("span", { className: "fv-work" }, bar, done, pages.pause);
  pages.root = h("div", { className: "fv-pages" }, back, count, on, work);
  return pages;
}

function buildPlot(app) {
  const tell = ({ id }) => app.tell(aboutImage(app, readState(app), id));
  const choose = ({ id }) => put(app, { image: id });
  const label = "agreement against confidence; arrow keys choose an image";
  return makePlot({ ...PLOT, label, tell, forget: () => app.forget(), choose });
}

function buildList(app) {
  const text = (value) => value, columns = [
    { name: "image", title: "position among all images", write: text },
    { name: "", title: "agreement with the map of the reference", write: (value) => num(value) },
    { name: "true class", title: "", write: text },
    { name: "", title: "what the reference says", write: text },
    { name: "", title: "what the compared network says", write: text },
  ];
  const choose = ([image]) => put(app, { image });
  return makeTable(columns, { label: "where the networks disagree most; arrow keys choose", choose, sort: [1, 1] });
}

// Make the controls show the present choice, and offer only what there is.
export function showControls(app, s) {
  const { inputs, labels } = app.ui, { meta } = app, oneClass = /^\d+$/.test(s.target);
  for (const name of ["method", "layer", "scale", "blend", "top", "only", "agreement", "order", "figure", "plot"]) {
    inputs[name].value = s[name];
  }
  setOptions(inputs.target, targets(app, s));
  inputs.target.value = oneClass ? OTHER_CLASS : s.target;
  Object.assign(labels.search, { hidden: !oneClass });
  const { activeElement } = app.ui.root.getRootNode(); // some hosts keep a widget in a shadow tree
  if (oneClass && activeElement !== inputs.search) inputs.search.value = called(app, +s.target);
  if (activeElement !== inputs.class) inputs.class.value = s.class < 0 ? "" : called(app, s.class);
  if (activeElement !== inputs.answer) inputs.answer.value = s.answer < 0 ? "" : called(app, s.answer);
  inputs.areas.checked = s.areas;
  inputs.other.value = s.other;
  inputs.of.value = s.of;
  labels.of.hidden = s.plot === "confidences";
  labels.other.hidden = meta.networks.length < 3;
  labels.only.hidden = labels.agreement.hidden = meta.networks.length < 2;
  labels.top.querySelector("span").textContent = `top ${num(100 * s.top, 0)} %`;
  if (meta.alone) limit(app, s);
  const [, figure, truth, first, second] = app.ui.list.columns;
  Object.assign(figure, { name: s.figure === "IoU" ? "IoU" : "rank r" });
  truth.name = meta.labelled ? "true class" : "";
  Object.assign(first, { name: `${s.reference} says` });
  Object.assign(second, { name: s.other === s.reference ? "" : `${s.other} says` });
}

function targets(app, s) {
  const { meta } = app, offered = [
    ["reference", `what ${s.reference} says`], ["each", "what each says"], [OTHER_CLASS, "one class:"],
  ];
  return meta.labelled ? [["true", "true class"], ...offered] : offered;
}

// A saved page holds the maps of some choices only.
function limit(app, s) {
  const { inputs } = app.ui, held = new Set(app.meta.held);
  for (const name of ["method", "layer", "target"]) {
    for (const option of inputs[name].options) {
      const key = [s.method, s.layer, s.target];
      key[["method", "layer", "target"].indexOf(name)] = option.value;
      option.disabled = !held.has(key.join("|"));
      option.title = option.disabled ? "not in this page" : "";
    }
  }
  inputs.areas.disabled = !app.areas.size;
}

// How many images are listed, and how many of their maps have come.
export function showPages(app, s) {
  const { pages } = app.ui, { list } = s, last = Math.min(list.length, app.first + app.cells);
  pages.count.textContent = list.length ? `${app.first + 1}–${last} of ${list.length}` : "no image passes the filters";
  pages.back.disabled = app.first === 0;
  pages.on.disabled = last >= list.length;
  const { images } = app.meta, all = images.length;
  const known = images.filter((image) => app.maps.has(`${s.key}|${image}`)).length;
  const wait = app.facts.size < all ? [app.facts.size, "predictions"] : [known, "maps"];
  pages.bar.value = wait[0] / all;
  pages.done.textContent = `${wait[1]}: ${wait[0]} of ${all}`;
  pages.bar.parentNode.hidden = known === all || app.meta.alone;
  pages.pause.textContent = app.paused ? "go on" : "pause";
}
