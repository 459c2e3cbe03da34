// What the explorer computes: bytes to spectra (laid out by famviz/payload.py), spectra to figures and words.
const SPAN = 80, TAU = 2 * Math.PI;
const AMP = Float64Array.from({ length: 256 }, (_, c) => (c ? 10 ** (((c - 1) / 254 - 1) * SPAN / 20) : 0));
const VIEWS = { amplitude: "amplitude |H|, dB", phase: "phase, rad", complex: "hue: phase, brightness: dB", kernel: "spatial kernel" };
const COLUMNS = [ // of the table: name, digits, unit and convention
  ["out", 0, "output channel, counted from 0"], ["in", 0, "input channel, counted from 0"],
  ["energy dB", 1, "mean of |H|² over all frequencies, in dB of the level's strongest filter"],
  ["centroid", 3, "energy-weighted mean radius, as a fraction of Nyquist"],
  ["bandwidth", 3, "energy-weighted standard deviation of the radius, as a fraction of Nyquist"],
  ["angle °", 0, "direction of the waves that carry the energy, 0 to 180°: 0° along x, 90° along y (downwards)"],
  ["coherence", 2, "0 where all directions carry the same energy, 1 where a single one has it all"]];
const FLOOR_TIP = "dB of the level's largest |H|: what is below is drawn darkest in amplitudes and hatched in phases and differences";
const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], PageUp: [-8, 0], PageDown: [8, 0] };
const mod = (a, n) => ((a % n) + n) % n, clamp = (v, a, b) => Math.min(b, Math.max(a, v));
const minusSign = (text) => String(text).replaceAll("-", "−");
const num = (v, d = 2) => minusSign((+v).toFixed(d)), weight = (v) => minusSign(v ? v.toPrecision(3) : 0);

// A share 0..1 that is never rounded to nothing or to all, as famviz.style.percent writes it.
function percent(share) {
  const small = Math.min(share, 1 - share);
  if (small > 0 && small < 1e-5) return share < 0.5 ? "< 0.001 %" : "> 99.999 %";
  return num(100 * share, small > 0 && small < 0.01 ? 3 : 0) + " %";
}
const part = (code) => (code < 1 ? "under 0.2" : code > 254 ? "over 99.8" : num(code / 2.55, Math.min(code, 255 - code) < 26 ? 1 : 0)) + " %";

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
// dB of a reference, as they are: what a floor hides is still subtracted as it is.
const level = (z, ref) => z.re.map((a, n) => 20 * Math.log10(Math.hypot(a, z.im[n]) / ref || 1e-30));
const angle = (z) => z.re.map((a, n) => Math.atan2(z.im[n], a));

function radial(z) {
  const { H, W } = z, m = Math.min(H, W), sum = new Float64Array((m >> 1) + 1), count = sum.slice();
  for (let i = 0, n = 0; i < H; i++) for (let j = 0; j < W; j++, n++) {
    const r = Math.round(Math.hypot((i - (H >> 1)) / H, (j - (W >> 1)) / W) * m);
    if (r < sum.length) { sum[r] += Math.hypot(z.re[n], z.im[n]); count[r]++; }
  }
  return sum.map((s, r) => s / Math.max(1, count[r]));
}

const polar = (z, { ref }) => Object.assign(z, { db: level(z, ref), phase: angle(z) });
const minus = (v, w) => v.map((q, n) => q - w[n]), most = (v) => v.reduce((m, q) => Math.max(m, Math.abs(q) || 0), 0);

// What one view of a difference needs: dB and phase differ as such, domain colour shows the complex difference.
// `weakest` says where one of the two is below the floor, so that there is nothing to compare.
function difference(z, b, s) {
  const d = polar({ re: minus(z.re, b.re), im: minus(z.im, b.im) }, s), weakest = z.db.map((v, n) => Math.min(v, b.db[n]));
  if (s.view === "amplitude") d.db = minus(z.db, b.db).map((v, n) => (weakest[n] > s.floor ? v : NaN));
  if (s.view === "phase") Object.assign(d, { db: weakest, phase: minus(z.phase, b.phase).map((v) => mod(v + Math.PI, TAU) - Math.PI) });
  return d;
}

// Energies of all pairs now or after an epoch, in dB of the strongest of them, and where their colours begin.
function energies({ epochs, lives, now, O, C }, epoch) {
  const e = epochs.indexOf(epoch), codes = e < 0 ? now : lives.subarray(e * O * C, (e + 1) * O * C);
  const best = decibel(codes.reduce((m, q) => Math.max(m, q), 0)), db = Array.from(codes, (q) => decibel(q) - best);
  return { db, low: clamp(Math.floor(db.reduce((m, v) => Math.min(m, v), 0) / 5) * 5, -40, -5) };
}

// The parts of a level's base bytes, in the order in which payload.py wrote them.
function unpack(f, b) {
  if (!f || !b) return null;
  const [O, C] = f.channels, [H, W] = f.size, half = H * ((W >> 1) + 1), E = f.epochs.length;
  let at = 0;
  const next = (n) => b.subarray(at, (at += n));
  return { ...f, O, C, H, W, half, now: next(O * C), part: f.shares && next(O * C), gain: next(H * W), rms: next(half),
    mean: [next(half), next(half)], life: next(E * half), lives: next(E * O * C) };
}

function words(s) {
  const { L } = s, n = s.out * L.C + s.in, row = L.table.find((r) => r[0] === s.out && r[1] === s.in);
  const energy = `utput ${s.out}, input ${s.in}: energy ${num(row && !s.epoch ? row[2] : energies(L, s.epoch).db[n], 1)} dB of the strongest`;
  if (s.epoch) return `Epoch ${s.epoch}: root mean square over all ${L.O * L.C} filters; phases are not kept per epoch. O${energy} then.`;
  if (s.mean) return `All ${L.O * L.C} filters: root mean square amplitude; phase and kernel of their mean.`;
  return [`O${energy}`, L.part && `global branch ${part(L.part[n])} of what it and the local one put out for white input`,
    row && `centroid ${num(row[3])}, bandwidth ${num(row[4])} of Nyquist, ${num(row[5], 0)}° (coherence ${num(row[6])})`,
    s.raw && L.raw && `raw plane: ${num(100 * L.ineffective, 1)} % of the level's stored energy never acts`]
    .filter(Boolean).join("; ") + ".";
}
