// What the explorer is made of: bytes to spectra (laid out by famviz/payload.py), spectra to pixels, a framed canvas.
const SVG = "http://www.w3.org/2000/svg", SPAN = 80, BOX = 250, TAU = 2 * Math.PI;
const AMP = Float64Array.from({ length: 256 }, (_, c) => (c ? 10 ** (((c - 1) / 254 - 1) * SPAN / 20) : 0));
const VIEWS = { amplitude: "amplitude |H|, dB", phase: "phase, rad", complex: "hue: phase, brightness: dB", kernel: "spatial kernel" };
const COLUMNS = ["out", "in", "energy dB", "centroid", "bandwidth", "angle °", "coherence"];
const DIGITS = [0, 0, 1, 3, 3, 0, 2];
const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], PageUp: [-8, 0], PageDown: [8, 0] };
const mod = (a, n) => ((a % n) + n) % n, clamp = (v, a, b) => Math.min(b, Math.max(a, v));
const percent = (share) => num(100 * share, share > 0 && share < 0.01 ? 3 : 0) + " %";
const num = (v, d = 2) => (+v).toFixed(d).replace("-", "−");

function h(tag, props = {}, ...kids) {
  const vector = /^(svg|path|rect|text|circle)$/.test(tag);
  const node = vector ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [k, v] of Object.entries(props)) !vector && k in node ? (node[k] = v) : node.setAttribute(k, v);
  node.append(...kids);
  return node;
}

// Codes of a half spectrum, or of a whole centred plane, to centred complex values.
function spread({ H, W, reference }, amp, phase, whole) {
  const re = new Float64Array(H * W), im = new Float64Array(H * W), cols = (W >> 1) + 1;
  for (let i = 0, n = 0; i < H; i++) for (let j = 0; j < W; j++, n++) {
    const k = mod(j - (W >> 1), W), flip = k > W >> 1, ky = i - (H >> 1);
    const at = whole ? n : mod(flip ? -ky : ky, H) * cols + (flip ? W - k : k);
    const a = AMP[amp[at]] * reference, p = phase ? (phase[at] / 256 - 0.5) * TAU : 0;
    re[n] = a * Math.cos(p);
    im[n] = a * Math.sin(p) * (flip && !whole ? -1 : 1);
  }
  return { H, W, re, im };
}

// Real part of the centred inverse DFT: the convolution kernel, its origin in the middle.
function inverse({ H, W, re, im }) {
  const pass = (n, m, re, im) => { // along the last axis, transposing
    const r = new Float64Array(n * m), q = new Float64Array(n * m), c = n >> 1;
    const cos = Float64Array.from({ length: n }, (_, t) => Math.cos(TAU * t / n) / n), sin = cos.map((_, t) => Math.sin(TAU * t / n) / n);
    for (let x = 0; x < n; x++) for (let k = 0; k < n; k++) {
      const t = mod((x - c) * (k - c), n), C = cos[t], S = sin[t];
      for (let i = 0; i < m; i++) {
        const a = re[i * n + k], b = im[i * n + k];
        r[x * m + i] += a * C - b * S;
        q[x * m + i] += a * S + b * C;
      }
    }
    return [r, q];
  };
  return pass(H, W, ...pass(W, H, re, im))[0];
}

const decibel = (code) => (code ? ((code - 1) / 254 - 1) * SPAN : -2 * SPAN);
const level = (z, ref, floor) => z.re.map((a, n) => Math.max(20 * Math.log10(Math.hypot(a, z.im[n]) / ref || 1e-30), floor));
const angle = (z) => z.re.map((a, n) => Math.atan2(z.im[n], a));

function radial(z) {
  const { H, W } = z, m = Math.min(H, W), sum = new Float64Array((m >> 1) + 1), count = sum.slice();
  for (let i = 0, n = 0; i < H; i++) for (let j = 0; j < W; j++, n++) {
    const r = Math.round(Math.hypot((i - (H >> 1)) / H, (j - (W >> 1)) / W) * m);
    if (r < sum.length) { sum[r] += Math.hypot(z.re[n], z.im[n]); count[r]++; }
  }
  return sum.map((s, r) => s / Math.max(1, count[r]));
}

const polar = (z, { ref, floor }) => Object.assign(z, { db: level(z, ref, floor), phase: angle(z) });
const minus = (v, w) => v.map((q, n) => q - w[n]), most = (v) => v.reduce((m, q) => Math.max(m, Math.abs(q)), 0);

// What one view of a difference needs: dB and phase differ as such, domain colour shows the complex difference.
function difference(z, b, s) {
  const d = polar({ re: minus(z.re, b.re), im: minus(z.im, b.im) }, s);
  if (s.view === "amplitude") d.db = minus(z.db, b.db);
  if (s.view !== "phase") return d;
  const phase = minus(z.phase, b.phase).map((v) => mod(v + Math.PI, TAU) - Math.PI);
  return { ...d, phase, db: z.db.map((v, n) => Math.min(v, b.db[n])) };
}

// The parts of a level's base bytes, in the order in which payload.py wrote them.
function unpack(f, b) {
  if (!f || !b) return null;
  const [O, C] = f.channels, [H, W] = f.size, half = H * ((W >> 1) + 1), E = f.epochs.length;
  let at = 0;
  const next = (n) => b.subarray(at, (at += n));
  const L = { ...f, O, C, H, W, half, now: next(O * C), part: f.shares && next(O * C), gain: next(H * W), rms: next(half),
    mean: [next(half), next(half)], life: next(E * half), lives: next(E * O * C) };
  const least = [L.now, L.lives].reduce((m, codes) => codes.reduce((a, q) => Math.min(a, q), m), 255);
  return { ...L, dip: clamp(Math.floor(decibel(least) / 5) * 5, -40, -5) }; // where the energy map's colours begin
}

function words(s) {
  const { L } = s, n = s.out * L.C + s.in, row = L.table.find((r) => r[0] === s.out && r[1] === s.in);
  if (s.epoch) return `Epoch ${s.epoch}: root mean square over all ${L.O * L.C} filters; phases are not kept per epoch.`;
  if (s.mean) return `All ${L.O * L.C} filters: root mean square amplitude; phase and kernel of their mean.`;
  return [`Output ${s.out}, input ${s.in}: energy ${num(decibel(L.now[n]), 1)} dB of the strongest`,
    L.part && `global branch ${L.part[n] ? num(L.part[n] / 2.55, 0) : "under 1"} % here`,
    row && `centroid ${num(row[3])}, bandwidth ${num(row[4])} of Nyquist, ${num(row[5], 0)}° (coherence ${num(row[6])})`,
    s.raw && L.raw && `raw plane: ${num(100 * L.ineffective, 1)} % of the level's stored energy never acts`]
    .filter(Boolean).join("; ") + ".";
}

// Colours of one spectrum, or of the difference of two: per pixel [table, index, brightness] or null, and the scale.
function shade(tables, { floor, ref }, view, z, kernel, top, difference) {
  const code = (x) => mod(Math.round((x / TAU + 0.5) * 256), 256), light = (x) => clamp(1 - x / floor, 0, 1);
  const signed = view === "kernel" || (difference && view === "amplitude"), digits = view === "kernel" ? 4 : 1;
  const values = view === "kernel" ? kernel : view === "phase" ? z.phase : z.db;
  if (signed) return { values, key: [tables.signed, num(-top, digits), num(top, digits)],
    colour: (n) => [tables.signed, clamp(Math.round((values[n] / top + 1) / 2 * 255), 0, 255)] };
  if (view === "amplitude") return { values, key: [tables.amplitude, num(floor, 0) + " dB", "0 dB is " + ref.toPrecision(3)],
    colour: (n) => [tables.amplitude, Math.round(light(z.db[n]) * 255)] };
  return { values, key: [tables[view], "−π", "π"],
    colour: view === "phase" ? (n) => (z.db[n] > floor ? [tables.phase, code(z.phase[n])] : null)
      : (n) => [tables.complex, code(z.phase[n]), light(z.db[n])] };
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
  const [x, y, ends, title] = ["fv-x", "fv-y", "fv-x", ""].map((className, i) => h(i < 3 ? "div" : "figcaption", { className }));
  const scale = h("div", { className: "fv-scale" }, bar, ends);
  const root = h("figure", { className: "fv-" + name }, title, y, h("div", { className: "fv-stack" }, canvas, lines), x, scale);
  const fill = (node, words) => node.replaceChildren(...words.map((word) => h("span", {}, String(word).replace("-", "−"))));
  canvas.setAttribute("role", name === "nav" ? "application" : "img");
  const draw = (H, W, caption, across, down, colour, key) => {
    const px = BOX / Math.max(H, W), width = Math.max(14, W * px) + "px";
    for (const node of [canvas, lines]) Object.assign(node.style, { width, height: Math.max(14, H * px) + "px" });
    x.style.width = scale.style.width = `max(${width}, 130px)`;
    lines.setAttribute("viewBox", `0 0 ${W} ${H}`);
    title.textContent = caption;
    canvas.setAttribute("aria-label", caption);
    fill(x, across); fill(y, down); fill(ends, key.slice(1));
    paint(bar, 1, 256, (n) => [key[0], n]);
    paint(canvas, H, W, colour);
  };
  title.textContent = label;
  return { root, canvas, lines, title, draw };
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

// Radial curves in dB, with their axes and a dot for the pointer.
function drawCurves(svg, curves, floor) {
  const n = Math.max(1, curves[0].length - 1), at = (r, v) => `${34 + r / n * 256} ${10 + v / floor * 128}`;
  const text = (x, y, word, anchor = "end") => h("text", { x, y, "text-anchor": anchor }, String(word));
  svg.replaceChildren(h("path", { d: "M34 10V138H290", class: "fv-axis" }),
    text(30, 14, 0), text(30, 141, num(floor, 0)), text(30, 78, "dB"),
    text(37, 152, 0), text(293, 152, n), text(162, 165, "radial frequency, cycles per map", "middle"),
    ...curves.map((v, i) => h("path", { d: v.map((q, r) => (r ? "L" : "M") + at(r, q)).join(""), class: "fv-line" + i })),
    h("circle", { r: 0 }));
}

