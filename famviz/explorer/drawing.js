
// How the explorer draws: spectra to pixels, a framed canvas, curves, a picture to keep.
const SVG = "http://www.w3.org/2000/svg";

function h(tag, props = {}, ...kids) {
  const vector = /^(svg|path|rect|text|circle)$/.test(tag);
  const node = vector ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [k, v] of Object.entries(props)) !vector && k in node ? (node[k] = v) : node.setAttribute(k, v);
  node.append(...kids);
  return node;
}

// One spectrum, or the difference of two: per pixel [table, index, brightness] or null, its words, and the key.
function shade(tables, { floor, ref }, view, z, kernel, top, difference) {
  const code = (x) => mod(Math.round((x / TAU + 0.5) * 256), 256), light = (x) => clamp(1 - x / floor, 0, 1);
  const low = num(floor, 0), turn = (n) => num(z.phase[n]) + " rad", loud = (n) => (z.db[n] > floor ? num(z.db[n], 1) + " dB" : `below ${low} dB`);
  if (view === "kernel" || (difference && view === "amplitude")) {
    const values = view === "kernel" ? kernel : z.db, write = (v) => (view === "kernel" ? weight(v) : num(v, 1) + " dB");
    return { key: [tables.signed, write(-top), write(top)], say: (n) => (values[n] === values[n] ? write(values[n]) : `one of the two is below ${low} dB`),
      colour: (n) => (values[n] === values[n] ? [tables.signed, clamp(Math.round((values[n] / top + 1) / 2 * 255), 0, 255)] : null) };
  }
  if (view === "amplitude") return { say: loud, key: [tables.amplitude, low + " dB", "0 dB is " + ref.toPrecision(3)],
    colour: (n) => [tables.amplitude, Math.round(light(z.db[n]) * 255)] };
  if (view === "phase") return { say: (n) => (z.db[n] > floor ? turn(n) : (difference ? "one of the two is " : "") + `below ${low} dB`),
    key: [tables.phase, "−π", "π"], colour: (n) => (z.db[n] > floor ? [tables.phase, code(z.phase[n])] : null) };
  return { say: (n) => loud(n) + (z.db[n] > floor ? ", " + turn(n) : ""), key: [tables.complex, "−π", "phase", "π"], sides: ["0 dB", low],
    colour: (n) => [tables.complex, code(z.phase[n]), light(z.db[n])] };
}

function paint(canvas, H, W, colour) {
  if (canvas.width !== W || canvas.height !== H) Object.assign(canvas, { width: W, height: H });
  const image = new ImageData(W, H);
  for (let n = 0; n < H * W; n++) {
    const c = colour(n);
    if (c) for (let k = 0; k < 4; k++) image.data[4 * n + k] = k < 3 ? Math.round(c[0][3 * c[1] + k] * (c[2] ?? 1)) : 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  canvas.dataset.seq = +(canvas.dataset.seq || 0) + 1;
}

// A canvas with an overlay for outlines, axis text around it and a colour scale below.
function panel(name, label = "") {
  const [canvas, lines, bar] = [h("canvas", { tabIndex: 0 }), h("svg", { preserveAspectRatio: "none" }), h("canvas")];
  const [x, y, ends, sides, title] = ["fv-x", "fv-y", "fv-x", "fv-y fv-sides", ""].map((className, i) => h(i < 4 ? "div" : "figcaption", { className }));
  const scale = h("div", { className: "fv-scale" }, bar, ends);
  const root = h("figure", { className: "fv-" + name }, title, y, h("div", { className: "fv-stack" }, canvas, lines), x, sides, scale);
  const fill = (node, words) => node.replaceChildren(...words.map((word) => h("span", {}, minusSign(word))));
  canvas.setAttribute("role", name === "nav" ? "application" : "img");
  const p = { root, canvas, lines, title, bar, say: null };
  p.draw = (box, H, W, caption, across, down, { colour, key, say, sides: marks = [] }) => {
    const px = box / Math.max(H, W), width = Math.max(14, W * px) + "px", rows = marks.length ? 24 : 1; // two directions of colour
    for (const node of [canvas, lines]) Object.assign(node.style, { width, height: Math.max(14, H * px) + "px" });
    x.style.width = scale.style.width = `max(${width}, 130px)`;
    lines.setAttribute("viewBox", `0 0 ${W} ${H}`);
    title.textContent = caption;
    canvas.setAttribute("aria-label", caption);
    fill(x, across); fill(y, down); fill(ends, key.slice(1)); fill(sides, marks);
    Object.assign(p, { say, texts: [across, down, key.slice(1)].map((words) => words.map(minusSign)) });
    scale.classList.toggle("fv-tall", rows > 1);
    scale.style.visibility = say ? "" : "hidden"; // without words there is no value either
    paint(bar, rows, 256, (n) => [key[0], n % 256, rows > 1 ? 1 - Math.floor(n / 256) / (rows - 1) : 1]);
    paint(canvas, H, W, colour);
  };
  title.textContent = label;
  return p;
}

// How wide the larger side of a picture is: two runs are three pictures, which stay in one row, with the curve if it fits.
// `wide` is as last laid out: while a theme changes, a width in between may be read that nobody corrects.
function boxOf(wide, two) {
  const room = wide || 960;
  return two ? clamp(Math.floor((room >= 1080 ? room - 560 : room - 210) / 4), 110, 250) : 250;
}

const captionOf = (s, name) => [name, s.epoch && `epoch ${s.epoch}`].filter(Boolean).map((word) => word + ": ").join("")
  + (!s.mean ? "" : s.view === "amplitude" ? "RMS " : "mean of all, ") + VIEWS[s.view];

// A bar for each run's level: which branch carries how much.
function shareBars(s, levels) {
  const held = levels.filter(([, L]) => L.share != null);
  return [...(held.length ? [`whole level${s.epoch ? " as saved" : ""}, on white input (not on images):`] : []), ...held.map(([name, L]) => {
    const bar = h("div", { className: "fv-share" }, s.B ? name + ": " : "", h("span", { className: "fv-global" }, `global ${percent(L.share)} (γ ${num(L.gamma[0], 3)})`),
      " ", h("span", { className: "fv-local" }, `local ${percent(1 - L.share)} (γ ${num(L.gamma[1], 3)})`));
    bar.style.setProperty("--part", 100 * L.share + "%");
    return bar;
  })];
}

// The edge of the high-pass, and DC.
function outline(lines, { H, W, gain }) {
  const open = (i, j) => i < 0 || j < 0 || i >= H || j >= W || gain[i * W + j] >= 128;
  let d = "";
  for (let i = 0; i <= H; i++) for (let j = 0; j <= W; j++) {
    if (j < W && open(i - 1, j) !== open(i, j)) d += `M${j} ${i}h1`;
    if (i < H && open(i, j - 1) !== open(i, j)) d += `M${j} ${i}v1`;
  }
  lines.replaceChildren(h("path", { d }), h("circle", { cx: (W >> 1) + 0.5, cy: (H >> 1) + 0.5, r: Math.min(H, W) / 80 }));
}

// Radial curves in dB, with their axes and a dot for the pointer; what is below the floor, as an emptied ring, has no line.
const ringAt = (n) => (r, v, floor) => [34 + r / n * 256, 10 + v / floor * 128];
function drawCurves(svg, curves, floor) {
  const n = Math.max(1, curves[0].length - 1), at = ringAt(n);
  const text = (x, y, word, anchor = "end") => h("text", { x, y, "text-anchor": anchor }, String(word));
  const line = (v) => v.map((q, r) => (q > floor ? (v[r - 1] > floor ? "L" : "M") + at(r, q, floor).join(" ") + (v[r - 1] > floor ? "" : "h0") : "")).join("");
  svg.replaceChildren(h("path", { d: "M34 10V138H290", class: "fv-axis" }),
    text(30, 14, 0), text(30, 141, num(floor, 0)), text(30, 78, "dB"),
    text(37, 152, 0), text(293, 152, n), text(162, 165, "radial frequency, cycles per map", "middle"),
    ...curves.map((v, i) => h("path", { d: line(v), class: "fv-line" + i })),
    h("circle", { r: 0 }));
}

// The shown panels side by side on white, as one canvas: titles, pictures with their outlines, axes and colour scales.
function snapshot(panels, caption) {
  const K = 2, T = 42, size = (p) => [parseFloat(p.canvas.style.width), parseFloat(p.canvas.style.height)];
  const wide = (p) => Math.max(size(p)[0], 150) + 48, high = Math.max(...panels.map((p) => size(p)[1]));
  const sheet = h("canvas", { width: K * (panels.reduce((sum, p) => sum + wide(p), 0) + 40), height: K * (high + T + 86) }), c = sheet.getContext("2d");
  const write = (word, x, y, room, align = "left", font = "11px sans-serif") => { Object.assign(c, { font, textAlign: align, fillStyle: "#222" }); c.fillText(word, x, y, room); };
  c.scale(K, K);
  Object.assign(c, { fillStyle: "#fff", imageSmoothingEnabled: false });
  c.fillRect(0, 0, sheet.width, sheet.height);
  let x = 40;
  for (const p of panels) {
    const [w, t] = size(p), [across, down, ends] = p.texts ?? [[], [], []], bar = Math.max(w, 130);
    const [first, ...rest] = p.title.textContent.split(": ");
    [first, rest.join(": ")].forEach((word, i) => write(word, x, 16 + 16 * i, wide(p) - 10, "left", "bold 12px sans-serif"));
    c.fillStyle = "#bbb"; // where there is nothing to colour
    c.fillRect(x, T, w, t);
    c.drawImage(p.canvas, x, T, w, t);
    c.save();
    c.translate(x, T); c.scale(w / p.canvas.width, t / p.canvas.height);
    Object.assign(c, { strokeStyle: "#ff5d5d", lineWidth: 2 * p.canvas.width / w });
    for (const path of p.lines.querySelectorAll("path")) c.stroke(new Path2D(path.getAttribute("d")));
    for (const r of p.lines.querySelectorAll("rect")) c.strokeRect(+r.getAttribute("x"), +r.getAttribute("y"), 1, 1);
    c.restore();
    down.forEach((word, i) => write(word, x - 4, T + (i * t) / 2 + (i ? (i > 1 ? 0 : 4) : 9), 36, "right"));
    across.forEach((word, i) => write(word, x + (i * w) / 2, T + 14 + t, w / 2, ["left", "center", "right"][i]));
    const tall = p.bar.height > 1 ? 24 : 9;
    if (p.say) c.drawImage(p.bar, x, T + 22 + t, bar, tall);
    if (p.say) ends.forEach((word, i) => write(word, x + (i * bar) / (ends.length - 1), T + 34 + tall + t, bar / 2 + 10, i ? (i < ends.length - 1 ? "center" : "right") : "left"));
    x += wide(p);
  }
  write(caption, 40, high + T + 78, sheet.width / K - 50);
  return sheet;
}
