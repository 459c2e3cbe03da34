// A widget: one app for each place where it is shown, drawn again at the next frame after a trait changed.

// `make(model)` returns the app, `build(app)` its elements {root, ...}, `connect(app)` attaches events, `draw(app)`
// draws everything, `receive(app, content, buffers)` takes a message of the kernel, and `stop(app)` ends what runs by
// itself. `traits` are the names whose change draws again.
export function widget({ traits, make, build, connect, draw, receive, stop = () => {} }) {
  return {
    render({ model, el }) {
      const app = make(model);
      app.redraw = atNextFrame(() => draw(app));
      app.ui = build(app);
      connect(app);
      el.append(app.ui.root);
      app.width = el.clientWidth;
      const sized = new ResizeObserver(() => {
        if (app.width === el.clientWidth) return;
        app.width = el.clientWidth;
        app.redraw();
      });
      sized.observe(el);
      const received = (content, buffers) => {
        receive(app, content, buffers ?? []);
        app.redraw();
      };
      const events = [["msg:custom", received], ...traits.map((trait) => ["change:" + trait, app.redraw])];
      for (const event of events) model.on(...event);
      draw(app);
      return () => {
        stop(app);
        sized.disconnect();
        for (const event of events) model.off(...event);
        app.redraw = () => {}; // a picture that is still decoded draws a removed view no more
      };
    },
  };
}

function atNextFrame(draw) {
  let queued = 0;
  return () => {
    queued ||= requestAnimationFrame(() => {
      queued = 0;
      draw();
    });
  };
}

const SLICE = 8; // ms of work between which a page answers keys and paints
const PAUSE = 16; // ms before the first slice, in which the page paints

// Run a generator to its end in slices, after the next painting; `cancel()` ends it before.
export function whenIdle(steps) {
  let timer = 0;
  const work = () => {
    const until = performance.now() + SLICE;
    while (performance.now() < until) if (steps.next().done) return;
    timer = setTimeout(work);
  };
  timer = setTimeout(work, PAUSE);
  return { cancel: () => clearTimeout(timer) };
}

// Set traits, here and in the kernel.
export function put(app, traits) {
  for (const name in traits) app.model.set(name, traits[name]);
  app.model.save_changes();
}

// Bytes that a trait or a message holds.
export function bytesOf(value) {
  return value && new Uint8Array(value.buffer ?? value, value.byteOffset ?? 0, value.byteLength);
}
