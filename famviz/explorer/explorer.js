// The filter explorer of famviz: canvases of one pixel for each frequency, axis text in DOM and SVG, no library.
// One module for two hosts: anywidget in a notebook, and a saved page, where page.js stands in for the model.
const REDRAW_ON = ["level", "c_out", "c_in", "mean", "epoch", "view", "raw", "other", "floor", "_rows"]; // traits

function render({ model, el }) {
  const app = makeApp(model);
  let queued = 0;
  app.redraw = () => {
    queued ||= requestAnimationFrame(() => {
      queued = 0;
      draw(app);
    });
  };
  app.ui = buildPage(app);
  connect(app);
  el.append(app.ui.root);
  app.width = el.clientWidth;
  const sized = new ResizeObserver(() => {
    if (app.width === el.clientWidth) return;
    app.width = el.clientWidth;
    app.redraw();
  });
  sized.observe(el);
  for (const trait of REDRAW_ON) model.on("change:" + trait, app.redraw);
  draw(app);
  return () => {
    app.ui.stopReplay();
    sized.disconnect();
    for (const trait of REDRAW_ON) model.off("change:" + trait, app.redraw);
  };
}
export default { render };
