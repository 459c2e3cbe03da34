// Keys and pointer: choosing a filter, reading values, saving a picture.
const STEPS = {
  ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], PageUp: [-8, 0], PageDown: [8, 0],
};

function connect(app) {
  const { nav, main, second, change, body, curve, save } = app.ui;
  onStep(nav.canvas, ([i, j]) => stepPair(app, i, j));
  onStep(body, ([i]) => stepRow(app, i));
  nav.canvas.onclick = (event) => choose(app, ...pixelAt(event, nav.canvas));
  onHover(app, nav, (i, j) => `output ${i}, input ${j}`);
  for (const p of [main, second, change]) {
    onHover(app, p, (i, j) => `x ${num(j - (p.canvas.width >> 1), 0)}, y ${num(i - (p.canvas.height >> 1), 0)}`);
  }
  curve.onpointermove = (event) => readCurve(app, event);
  curve.onpointerleave = () => readChoice(app);
  save.onclick = () => savePicture(app);
}

// Call a function with the rows and columns that an arrow key moves by; the key does nothing else.
function onStep(node, use) {
  node.onkeydown = (event) => {
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    use(step);
  };
}

function stepPair(app, i, j) {
  const s = readState(app);
  choose(app, clamp(s.out + i, 0, s.L.O - 1), clamp(s.in + j, 0, s.L.C - 1));
}

function stepRow(app, i) {
  const s = readState(app), { order, rows } = app;
  const now = order.findIndex(([out, inn]) => out === s.out && inn === s.in);
  const at = clamp(now + i, 0, order.length - 1);
  choose(app, order[at][0], order[at][1]);
  rows[at].scrollIntoView({ block: "nearest" });
}

// Row and column of the pixel of a canvas under the pointer.
function pixelAt(event, { height, width, clientHeight, clientWidth }) {
  const i = Math.floor(event.offsetY / clientHeight * height), j = Math.floor(event.offsetX / clientWidth * width);
  return [clamp(i, 0, height - 1), clamp(j, 0, width - 1)];
}

// Show the value under the pointer in the readout; `where` puts a row and a column into words.
function onHover(app, p, where) {
  p.canvas.onpointermove = (event) => {
    const [i, j] = pixelAt(event, p.canvas);
    if (!p.say) return;
    app.ui.readout.textContent = `${p.title.textContent} at ${where(i, j)}: ${p.say(i * p.canvas.width + j)}`;
  };
  p.canvas.onpointerleave = () => readChoice(app);
}

// Show the line about the choice again.
function readChoice(app) {
  app.ui.readout.textContent = app.readout;
  app.ui.curve.lastChild?.setAttribute("r", 0);
}

// Show the values of the ring under the pointer, and a dot on the first curve.
function readCurve(app, event) {
  const { curves, ui, model, meta } = app;
  if (!curves.length) return;
  const floor = model.get("floor"), last = curves[0].length - 1;
  const box = ui.curve.getBoundingClientRect();
  const x = (event.clientX - box.left) / box.width * 300; // in units of the SVG
  const ring = clamp(Math.round((x - CURVE.left) / (CURVE.right - CURVE.left) * last), 0, last);
  const values = curves.map((values) => (values[ring] > floor ? num(values[ring], 1) + " dB" : below(floor)));
  if (values.length > 1) values[1] = `${meta.runs[readState(app).other]} ${values[1]}`;
  ui.readout.textContent = `ring ${ring} of ${last}: ${values.join(", ")}`;
  const dot = ui.curve.lastChild, visible = curves[0][ring] > floor;
  const [cx, cy] = visible ? ringAt(Math.max(1, last), ring, curves[0][ring], floor) : [0, 0];
  dot.setAttribute("r", visible ? 4 : 0);
  dot.setAttribute("cx", cx);
  dot.setAttribute("cy", cy);
}

// Save the visible panels as a PNG file.
function savePicture(app) {
  const s = readState(app), { title } = s.L, pair = s.mean ? "all" : `${s.out}-${s.in}`;
  const name = [app.meta.runs[0], title, s.epoch ? `epoch ${s.epoch}` : pair, s.view].join("-");
  const visible = app.ui.panels.filter((p) => !p.root.hidden);
  const caption = [`${title}. ${words(s)}`, captions(s, app.meta.runs)].filter(Boolean).join(" ");
  snapshot(visible, caption).toBlob((blob) => {
    const href = URL.createObjectURL(blob);
    h("a", { download: name.replace(/[^\w.]+/g, "-") + ".png", href }).click();
    setTimeout(() => URL.revokeObjectURL(href), 1000);
  });
}
