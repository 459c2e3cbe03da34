// The filter explorer of famviz: canvases of one pixel for each frequency, axis text in DOM and SVG, no library.
// One module for two hosts: anywidget in a notebook, and a saved page, where page.js stands in for the model.
import { widget } from "../shared/widget.js";
import { buildPage } from "./controls.js";
import { receiveEffect } from "./effect.js";
import { receiveLarge } from "./large.js";
import { connect } from "./pointer.js";
import { makeApp } from "./state.js";
import { draw } from "./views.js";

export default widget({
  traits: ["level", "c_out", "c_in", "mean", "epoch", "view", "raw", "other", "floor", "colormap", "wall", "search",
    "image", "_rows"],
  make: makeApp,
  build: buildPage,
  connect,
  draw,
  receive(...message) {
    receiveEffect(...message);
    receiveLarge(...message);
  },
  stop: (app) => app.ui.stopReplay(),
});
