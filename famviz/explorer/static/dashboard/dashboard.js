// The dashboard of famviz: curves of trainings, their progress, and the filters as they form.
// One module for two hosts: anywidget in a notebook, and a saved page, which holds the messages of the kernel.
import { countDrawing, h } from "../shared/dom.js";
import { keepKeys, keyHelp, onKeys, onStep } from "../shared/keyboard.js";
import { clamp } from "../shared/numbers.js";
import { put, widget } from "../shared/widget.js";
import { buildCharts, showCharts } from "./charts.js";
import { askForFilters, layFilters, showFilters } from "./filters.js";
import { showProgress } from "./progress.js";
import { makeApp, readState, receive } from "./state.js";

const KEYS = [
  ["← →", "on a diagram or under a filter: another epoch; on a large filter: read its values, with Shift by 8"],
  ["PageUp PageDown", "the same by 8"],
  ["click", "on a diagram or a small filter: that epoch stays chosen"],
  ["n", "back to the newest epoch"],
  ["?", "this list"],
];

function build(app) {
  app.tell = (words) => (app.ui.readout.textContent = words);
  app.forget = () => (app.ui.readout.textContent = app.readout);
  const follow = () => put(app, { epoch: 0 });
  const ui = {
    progress: h("div", { className: "fv-progress" }),
    charts: buildCharts(app, {
      read: (epoch) => hover(app, epoch),
      forget: () => hover(app, null),
      choose: (epoch) => put(app, { epoch: epoch === app.model.get("epoch") ? 0 : epoch }),
    }),
    newest: h("button", { title: "follow the newest epoch again", onclick: follow }, "newest epoch"),
    readout: h("output", { className: "fv-read", ariaLive: "polite" }),
    help: keyHelp(KEYS),
    filtersHead: h("p", { className: "fv-hint" },
      "Filters as they form: |H|, root mean square over all filters of a level, one scale for all epochs."),
    filters: h("div", { className: "fv-filters" }),
  };
  ui.root = h("div", { className: "famviz fv-dashboard" }, ui.progress,
    h("div", { className: "fv-charts" }, ...ui.charts.charts.map((chart) => chart.root)),
    h("div", { className: "fv-say" }, ui.readout, h("span", {}, ui.newest, " ", ui.help.button)), ui.help.list,
    ui.filtersHead, ui.filters);
  keepKeys(ui.root);
  return ui;
}

function connect(app) {
  for (const { chart } of app.ui.charts.charts) onStep(chart.root, ([i, j]) => step(app, j || i));
  onKeys(app.ui.root, { n: () => put(app, { epoch: 0 }), "?": app.ui.help.toggle });
}

function hover(app, epoch) {
  if (app.hovered === epoch) return;
  app.hovered = epoch;
  app.redraw();
}

function step(app, by) {
  const s = readState(app);
  app.hovered = null;
  put(app, { epoch: clamp((s.pinned || s.last) + by, 1, s.last) });
}

function draw(app) {
  const s = readState(app), { ui } = app;
  showProgress(ui.progress, s);
  showCharts(app, s);
  layFilters(app, s);
  const wanted = showFilters(app, s);
  ui.newest.hidden = !s.pinned;
  app.readout = readoutOf(s);
  app.forget();
  countDrawing(ui.root);
  askForFilters(app, wanted);
}

function readoutOf(s) {
  if (!s.last) return "No epoch is done yet.";
  return s.at === s.last ? `Values after epoch ${s.at}, the newest.` : `Values after epoch ${s.at} of ${s.last}.`;
}

export default widget({
  traits: ["_runs", "figure", "loss", "log", "epoch"],
  make: makeApp,
  build,
  connect,
  draw,
  receive(app, ...message) {
    receive(app, ...message);
    app.asked = false;
  },
});
