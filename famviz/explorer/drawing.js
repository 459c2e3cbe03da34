// How the explorer draws: spectra to pixels, a framed canvas, curves, a picture to save.
const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = ["svg", "path", "rect", "text", "circle"];
const KEY_HEIGHT = 24; // pixels of a colour scale with two directions

// A new element with properties or attributes and children.
function h(tag, properties = {}, ...children) {
  const vector = SVG_TAGS.includes(tag);
  const node = vector ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (!vector && name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// Colours -------------------------------------------------------------------------------------------------------------
// How a view colours one spectrum, or in the panel of differences the difference of two:
// `colour(n)` is [table, index, brightness] of pixel n, or null; `say(n)` its value in words; `key` the table of the
// colour scale and the words under it, `sides` those at its side.
function shade(tables, s, view, z, kernel, top, isDifference) {
  const decibels = (value) => num(value, 1) + " dB";
  if (view === "kernel") return shadeSigned(tables.signed, kernel, top, weight, s.floor);
  if (view === "phase") return shadePhase(tables.phase, z, s.floor, isDifference);
  if (view === "complex") return shadeComplex(tables.complex, z, s.floor);
  if (isDifference) return shadeSigned(tables.signed, z.db, top, decibels, s.floor);
  return shadeAmplitude(tables.amplitude, z, s.floor, s.reference);
}

const darkness = (decibels, floor) => clamp(1 - decibels / floor, 0, 1);
const phaseCode = (phase) => mod(Math.round((phase / TAU + 0.5) * 256), 256);
const below = (floor) => `below ${num(floor, 0)} dB`;
const loudness = (z, n, floor) => (z.db[n] > floor ? num(z.db[n], 1) + " dB" : below(floor));
const turn = (z, n) => num(z.phase[n]) + " rad";

// Values of both signs, 0 in the middle of the table; NaN where there is nothing to compare.
function shadeSigned(table, values, top, write, floor) {
  const index = (value) => clamp(Math.round((value / top + 1) / 2 * 255), 0, 255);
  return {
    key: [table, write(-top), write(top)],
    say: (n) => (Number.isNaN(values[n]) ? `one of the two is ${below(floor)}` : write(values[n])),
    colour: (n) => (Number.isNaN(values[n]) ? null : [table, index(values[n])]),
  };
}

function shadeAmplitude(table, z, floor, reference) {
  return {
    key: [table, num(floor, 0) + " dB", "0 dB is " + reference.toPrecision(3)],
    say: (n) => loudness(z, n, floor),
    colour: (n) => [table, Math.round(darkness(z.db[n], floor) * 255)],
  };
}

function shadePhase(table, z, floor, isDifference) {
  const weak = (isDifference ? "one of the two is " : "") + below(floor);
  return {
    key: [table, "−π", "π"],
    say: (n) => (z.db[n] > floor ? turn(z, n) : weak),
    colour: (n) => (z.db[n] > floor ? [table, phaseCode(z.phase[n])] : null),
  };
}

function shadeComplex(table, z, floor) {
  return {
    key: [table, "−π", "phase", "π"],
    sides: ["0 dB", num(floor, 0)],
    say: (n) => (z.db[n] > floor ? `${loudness(z, n, floor)}, ${turn(z, n)}` : below(floor)),
    colour: (n) => [table, phaseCode(z.phase[n]), darkness(z.db[n], floor)],
  };
}

// Fill a canvas of one pixel for each value; null is left clear.
function paint(canvas, H, W, colour) {
  if (canvas.width !== W || canvas.height !== H) Object.assign(canvas, { width: W, height: H });
  const image = new ImageData(W, H);
  for (let n = 0; n < H * W; n++) {
    const found = colour(n);
    if (!found) continue;
    const [table, index, brightness = 1] = found;
    for (let k = 0; k < 3; k++) image.data[4 * n + k] = Math.round(table[3 * index + k] * brightness);
    image.data[4 * n + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  countDrawing(canvas);
}

// Tests wait for this number to change.
function countDrawing(node) {
  node.dataset.seq = +(node.dataset.seq || 0) + 1;
}

// Panels --------------------------------------------------------------------------------------------------------------
// A canvas with an overlay for outlines, axis text around it and a colour scale below.
function panel(name, label = "") {
  const canvas = h("canvas", { tabIndex: 0 });
  canvas.setAttribute("role", name === "nav" ? "application" : "img");
  const p = {
    canvas,
    lines: h("svg", { preserveAspectRatio: "none" }),
    bar: h("canvas"),
    x: h("div", { className: "fv-x" }),
    y: h("div", { className: "fv-y" }),
    ends: h("div", { className: "fv-x" }),
    sides: h("div", { className: "fv-y fv-sides" }),
    title: h("figcaption", {}, label),
    say: null, // the value of a pixel in words; null if there is none
    texts: { across: [], down: [], ends: [] },
  };
  p.scale = h("div", { className: "fv-scale" }, p.bar, p.ends);
  const stack = h("div", { className: "fv-stack" }, canvas, p.lines);
  p.root = h("figure", { className: "fv-" + name }, p.title, p.y, stack, p.x, p.sides, p.scale);
  return p;
}

// Draw H x W pixels with their title, the texts along the axes, and a colour scale. `box` is the larger side in px.
function drawPanel(p, { box, H, W, title, across, down }, look) {
  const side = box / Math.max(H, W), sides = look.sides ?? [], ends = look.key.slice(1);
  const width = Math.max(14, W * side) + "px", height = Math.max(14, H * side) + "px";
  for (const node of [p.canvas, p.lines]) Object.assign(node.style, { width, height });
  p.x.style.width = p.scale.style.width = `max(${width}, 130px)`;
  p.lines.setAttribute("viewBox", `0 0 ${W} ${H}`);
  p.title.textContent = title;
  p.canvas.setAttribute("aria-label", title);
  const texts = { across, down, ends, sides };
  for (const name in texts) texts[name] = texts[name].map(minusSign);
  for (const [node, name] of [[p.x, "across"], [p.y, "down"], [p.ends, "ends"], [p.sides, "sides"]]) {
    node.replaceChildren(...texts[name].map((text) => h("span", {}, text)));
  }
  Object.assign(p, { say: look.say, texts });
  drawScale(p, look.key[0], sides.length > 0);
  p.scale.style.visibility = look.say ? "" : "hidden"; // without values there is no scale
  paint(p.canvas, H, W, look.colour);
}

// The colour scale of a panel: 256 colours, and with `tall` their brightness downwards.
function drawScale(p, table, tall) {
  const rows = tall ? KEY_HEIGHT : 1;
  const brightness = (row) => (tall ? 1 - row / (rows - 1) : 1);
  p.scale.classList.toggle("fv-tall", tall);
  paint(p.bar, rows, 256, (n) => [table, n % 256, brightness(Math.floor(n / 256))]);
}

// The larger side of a picture in px. Two runs are three pictures, which stay in one row, with the curve if it fits.
// `width` is as last laid out: while a theme changes, one in between may be read that nothing corrects.
function boxOf(width, two) {
  if (!two) return 250;
  const room = width || 960, curve = room >= 1080 ? 350 : 0;
  return clamp(Math.floor((room - 210 - curve) / 4), 110, 250);
}

// The edge of the high-pass, where its gain crosses one half, and a dot at DC.
function outline(lines, { H, W, gain }) {
  const passes = (i, j) => i < 0 || j < 0 || i >= H || j >= W || gain[i * W + j] >= 128;
  let path = "";
  for (let i = 0; i <= H; i++) for (let j = 0; j <= W; j++) {
    if (j < W && passes(i - 1, j) !== passes(i, j)) path += `M${j} ${i}h1`;
    if (i < H && passes(i, j - 1) !== passes(i, j)) path += `M${j} ${i}v1`;
  }
  const dc = h("circle", { cx: (W >> 1) + 0.5, cy: (H >> 1) + 0.5, r: Math.min(H, W) / 80 });
  lines.replaceChildren(h("path", { d: path }), dc);
}

// Curves --------------------------------------------------------------------------------------------------------------
const CURVE = { left: 34, right: 290, top: 10, bottom: 138 }; // of the axes, in units of the SVG

// Where a ring of a curve lies that has `last` rings above DC.
function ringAt(last, ring, value, floor) {
  const x = CURVE.left + ring / last * (CURVE.right - CURVE.left);
  const y = CURVE.top + value / floor * (CURVE.bottom - CURVE.top);
  return [x, y];
}

// Radial curves in dB, with their axes and a dot for the pointer.
function drawCurves(svg, curves, floor) {
  const last = Math.max(1, curves[0].length - 1);
  const text = (x, y, word, anchor = "end") => h("text", { x, y, "text-anchor": anchor }, String(word));
  const lines = curves.map((values, i) => h("path", { d: curvePath(values, last, floor), class: "fv-line" + i }));
  svg.replaceChildren(
    h("path", { d: `M${CURVE.left} ${CURVE.top}V${CURVE.bottom}H${CURVE.right}`, class: "fv-axis" }),
    text(30, 14, 0), text(30, 141, num(floor, 0)), text(30, 78, "dB"),
    text(37, 152, 0), text(293, 152, last), text(162, 165, "radial frequency, cycles per map", "middle"),
    ...lines, h("circle", { r: 0 }));
}

// What is at or below the floor, such as a ring that the high-pass empties, has no line.
function curvePath(values, last, floor) {
  let path = "";
  values.forEach((value, ring) => {
    if (!(value > floor)) return;
    const [x, y] = ringAt(last, ring, value, floor);
    const continues = values[ring - 1] > floor;
    path += continues ? `L${x} ${y}` : `M${x} ${y}h0`; // h0 shows a single ring as a dot
  });
  return path;
}

// Bars of how much energy each branch carries, one for each run that has two branches.
function shareBars(s, levels) {
  const two = levels.filter(([, L]) => L.share != null);
  if (!two.length) return [];
  const heading = `whole level${s.epoch ? " as saved" : ""}, on white input (not on images):`;
  return [heading, ...two.map(([name, L]) => shareBar(s.B ? name + ": " : "", L))];
}

function shareBar(prefix, L) {
  const global = h("span", { className: "fv-global" }, `global ${percent(L.share)} (γ ${num(L.gamma[0], 3)})`);
  const local = h("span", { className: "fv-local" }, `local ${percent(1 - L.share)} (γ ${num(L.gamma[1], 3)})`);
  const bar = h("div", { className: "fv-share" }, prefix, global, " ", local);
  bar.style.setProperty("--part", 100 * L.share + "%");
  return bar;
}

// A picture to save ---------------------------------------------------------------------------------------------------
const SHEET = { scale: 2, left: 40, top: 42, below: 86 }; // px; `below`: axis text, colour scale and caption

// The panels side by side on white, as one canvas: titles, pictures with their outlines, axes and colour scales.
function snapshot(panels, caption) {
  const tallest = Math.max(...panels.map((p) => sizeOf(p)[1]));
  const width = panels.reduce((sum, p) => sum + roomOf(p), 0) + SHEET.left;
  const height = tallest + SHEET.top + SHEET.below;
  const sheet = h("canvas", { width: SHEET.scale * width, height: SHEET.scale * height });
  const context = sheet.getContext("2d");
  context.scale(SHEET.scale, SHEET.scale);
  Object.assign(context, { fillStyle: "#fff", imageSmoothingEnabled: false });
  context.fillRect(0, 0, sheet.width, sheet.height);
  let x = SHEET.left;
  for (const p of panels) {
    copyTitle(context, p, x);
    copyPicture(context, p, x);
    copyAxes(context, p, x);
    if (p.say) copyScale(context, p, x);
    x += roomOf(p);
  }
  write(context, caption, SHEET.left, height - 8, { room: width - 50 });
  return sheet;
}

const sizeOf = (p) => [parseFloat(p.canvas.style.width), parseFloat(p.canvas.style.height)];
const roomOf = (p) => Math.max(sizeOf(p)[0], 150) + 48;

function write(context, text, x, y, { room, align = "left", font = "11px sans-serif" }) {
  Object.assign(context, { font, textAlign: align, fillStyle: "#222" });
  context.fillText(text, x, y, room);
}

// The name of the run and the view, one line each.
function copyTitle(context, p, x) {
  const [first, ...rest] = p.title.textContent.split(": ");
  const look = { room: roomOf(p) - 10, font: "bold 12px sans-serif" };
  write(context, first, x, 16, look);
  write(context, rest.join(": "), x, 32, look);
}

function copyPicture(context, p, x) {
  const [width, height] = sizeOf(p);
  context.fillStyle = "#bbb"; // shows where a pixel has no colour
  context.fillRect(x, SHEET.top, width, height);
  context.drawImage(p.canvas, x, SHEET.top, width, height);
  context.save();
  context.translate(x, SHEET.top);
  context.scale(width / p.canvas.width, height / p.canvas.height);
  Object.assign(context, { strokeStyle: "#ff5d5d", lineWidth: 2 * p.canvas.width / width });
  for (const path of p.lines.querySelectorAll("path")) context.stroke(new Path2D(path.getAttribute("d")));
  for (const rect of p.lines.querySelectorAll("rect")) {
    context.strokeRect(+rect.getAttribute("x"), +rect.getAttribute("y"), 1, 1);
  }
  context.restore();
}

function copyAxes(context, p, x) {
  const [width, height] = sizeOf(p), { across, down } = p.texts;
  const lower = [9, 4, 0]; // of the first text, which starts at the top, of the middle one, of the last one
  down.forEach((text, i) => {
    write(context, text, x - 4, SHEET.top + i * height / 2 + lower[i], { room: 36, align: "right" });
  });
  across.forEach((text, i) => {
    const align = ["left", "center", "right"][i];
    write(context, text, x + i * width / 2, SHEET.top + 14 + height, { room: width / 2, align });
  });
}

function copyScale(context, p, x) {
  const [width, height] = sizeOf(p), { ends } = p.texts;
  const top = SHEET.top + 22 + height, tall = p.bar.height > 1 ? KEY_HEIGHT : 9, bar = Math.max(width, 130);
  context.drawImage(p.bar, x, top, bar, tall);
  const last = ends.length - 1;
  ends.forEach((text, i) => {
    const align = i === 0 ? "left" : i === last ? "right" : "center";
    write(context, text, x + i * bar / last, top + 12 + tall, { room: bar / 2 + 10, align });
  });
}
