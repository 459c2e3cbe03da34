// Bytes to spectra (encode.py writes the bytes), spectra to figures and words. Nothing here touches the page.
import { TAU, clamp, minus, mod, num } from "../shared/numbers.js";
import { keptOf, unpackKept } from "./kept.js";

const SPAN = 80; // dB between the lowest and the highest amplitude code
const DEEPEST = -60; // dB, where there is nothing to take a range from
const WEAK = 0.02; // share of the amplitudes that an automatic range leaves below it
const SCALES = [-400, 40000, 40000, 100, 60000]; // of the codes of a table
const TINY = 1e-30; // amplitude that stands for zero in a logarithm
const AMPLITUDES = Float64Array.from({ length: 256 }, (_, code) => (code ? 10 ** (decibel(code) / 20) : 0));
export const VIEWS = {
  amplitude: "amplitude |H|, dB",
  phase: "phase, rad",
  complex: "hue: phase, brightness: dB",
  kernel: "spatial kernel",
};

// A share that was sent as a byte 0..255, as a percentage.
export function part(code) {
  if (code < 1) return "under 0.2 %";
  if (code > 254) return "over 99.8 %";
  const digits = Math.min(code, 255 - code) < 26 ? 1 : 0;
  return num(code / 2.55, digits) + " %";
}

// Spectra -------------------------------------------------------------------------------------------------------------
function decibel(code) {
  return code ? ((code - 1) / 254 - 1) * SPAN : -2 * SPAN;
}

// The parts of a level's base bytes, in the order in which encode.level_data writes them.
export function unpack(key, figures, bytes, table, kept) {
  const [O, C] = figures.channels, [H, W] = figures.size;
  const half = H * ((W >> 1) + 1), epochs = figures.epochs.length;
  let at = 0;
  const next = (length) => bytes.subarray(at, (at += length));
  const level = { ...figures, key, O, C, H, W, half };
  level.now = next(O * C);
  level.part = figures.shares && next(O * C);
  level.gain = next(H * W);
  level.rms = next(half);
  level.mean = [next(half), next(half)];
  level.life = next(epochs * half);
  level.lives = next(epochs * O * C);
  level.kept = once(() => unpackKept({ counts: figures.kept, half, scales: SCALES.slice(1) }, kept));
  level.nav = { O, C, step: 1 };
  level.row = (epoch, out, inn) => level.rows(epoch)[out * C + inn];
  level.shareOf = (pair) => level.part[pair];
  level.rows = lastOf((epoch) => (epoch ? rowsThen(level, epoch) : tableRows(level, table)));
  level.order = lastOf((epoch) => {
    const rows = level.rows(epoch);
    return rows.map((_, pair) => pair).sort((a, b) => rows[b][2] - rows[a][2]);
  });
  return level;
}

function once(make) {
  let made = null;
  return () => (made ??= make());
}

// The same for a function of an epoch (0 for the saved weights), whose last value it remembers.
function lastOf(make) {
  let made = [];
  return (epoch = 0) => (made[0] === epoch ? made : (made = [epoch, make(epoch)]))[1];
}

// Rows of the table, one for each pair of channels in their order: encode.table_bytes says what the codes mean.
function tableRows({ O, C }, bytes) {
  const pairs = O * C, codes = new Uint16Array(bytes.slice().buffer);
  return Array.from({ length: pairs }, (_, n) =>
    [Math.floor(n / C), n % C, ...SCALES.map((scale, k) => codes[k * pairs + n] / scale)]);
}

// Rows of the table after an epoch: all energies are known, the rest of the filters that were kept.
function rowsThen(level, epoch) {
  const { db } = energies(level, epoch), { C } = level, unknown = SCALES.slice(1).map(() => null);
  return db.map((energy, n) => {
    const [out, inn] = [Math.floor(n / C), n % C];
    return [out, inn, energy, ...(keptOf(level, epoch, out, inn)?.figures ?? unknown)];
  });
}

// What the colours of amplitudes range over: the level's largest down to a fixed floor, or what is shown, from its
// largest to the amplitude that 2 % lie below, in steps of 5 dB.
export function rangeOf({ fixed, peak }, fields) {
  if (fixed || !fields.length) return { reference: peak, floor: fixed || DEEPEST };
  const values = Float64Array.from(fields.flatMap(({ re, im }) => Array.from(re, (a, n) => Math.hypot(a, im[n]))));
  const sorted = values.filter((value) => value > 0).sort(), reference = sorted.at(-1);
  if (!reference) return { reference: peak, floor: DEEPEST };
  const weak = 20 * Math.log10(sorted[Math.floor(sorted.length * WEAK)] / reference);
  return { reference, floor: clamp(Math.floor(weak / 5) * 5, -SPAN, -5) };
}

// Codes of a half spectrum, or of a whole centred plane, to complex values on the centred plane.
export function spread({ H, W, reference }, amplitude, phase, whole) {
  const re = new Float64Array(H * W), im = new Float64Array(H * W);
  const columns = (W >> 1) + 1;
  for (let n = 0; n < H * W; n++) {
    const ky = Math.floor(n / W) - (H >> 1), kx = mod((n % W) - (W >> 1), W);
    const mirrored = !whole && kx > W >> 1; // only the value at -k is stored, which is the conjugate
    const stored = mirrored ? mod(-ky, H) * columns + W - kx : mod(ky, H) * columns + kx;
    const at = whole ? n : stored;
    const a = AMPLITUDES[amplitude[at]] * reference;
    const p = phase ? (phase[at] / 256 - 0.5) * TAU : 0;
    re[n] = a * Math.cos(p);
    im[n] = mirrored ? -a * Math.sin(p) : a * Math.sin(p);
  }
  return { H, W, re, im };
}

// Real part of the centred inverse DFT: the convolution kernel, its origin in the middle.
export function inverse({ H, W, re, im }) {
  const alongRows = inverseAlong(W, H, re, im);
  return inverseAlong(H, W, ...alongRows)[0];
}

// The inverse DFT of `m` rows of `n` values each, transposed.
function inverseAlong(n, m, re, im) {
  const real = new Float64Array(n * m), imaginary = new Float64Array(n * m), middle = n >> 1;
  const cos = Float64Array.from({ length: n }, (_, t) => Math.cos(TAU * t / n) / n);
  const sin = Float64Array.from({ length: n }, (_, t) => Math.sin(TAU * t / n) / n);
  for (let x = 0; x < n; x++) for (let k = 0; k < n; k++) {
    const t = mod((x - middle) * (k - middle), n), c = cos[t], s = sin[t];
    for (let i = 0; i < m; i++) {
      const a = re[i * n + k], b = im[i * n + k];
      real[x * m + i] += a * c - b * s;
      imaginary[x * m + i] += a * s + b * c;
    }
  }
  return [real, imaginary];
}

// Adds dB of a reference, without a floor (what a floor hides is still subtracted as it is), and phases.
export function polar(z, { reference }) {
  z.db = z.re.map((a, n) => 20 * Math.log10(Math.hypot(a, z.im[n]) / reference || TINY));
  z.phase = z.re.map((a, n) => Math.atan2(z.im[n], a));
  return z;
}

// Mean amplitude of each ring of equal frequency, from DC to Nyquist.
function radial({ H, W, re, im }) {
  const shorter = Math.min(H, W), sums = new Float64Array((shorter >> 1) + 1), counts = sums.slice();
  for (let n = 0; n < H * W; n++) {
    const ky = (Math.floor(n / W) - (H >> 1)) / H, kx = ((n % W) - (W >> 1)) / W;
    const ring = Math.round(Math.hypot(ky, kx) * shorter);
    if (ring >= sums.length) continue;
    sums[ring] += Math.hypot(re[n], im[n]);
    counts[ring]++;
  }
  return sums.map((sum, ring) => sum / Math.max(1, counts[ring]));
}

// The same in dB, as a plain array.
export function radialDb(z, reference) {
  return Array.from(radial(z), (mean) => 20 * Math.log10(mean / reference || TINY));
}

// What one view of a difference shows: dB and phases are subtracted as such, the complex view shows the complex
// difference. Where one of the two is below the floor there is nothing to compare.
export function difference(z, b, s) {
  const d = polar({ re: minus(z.re, b.re), im: minus(z.im, b.im) }, s);
  const weaker = z.db.map((value, n) => Math.min(value, b.db[n]));
  if (s.view === "amplitude") {
    d.db = minus(z.db, b.db).map((value, n) => (weaker[n] > s.floor ? value : NaN));
  }
  if (s.view === "phase") {
    d.db = weaker;
    d.phase = minus(z.phase, b.phase).map((value) => mod(value + Math.PI, TAU) - Math.PI);
  }
  return d;
}

// Energies of all pixels of the map, now or after an epoch, in dB of the strongest, and where their colours begin.
export function energies({ epochs, lives, now, nav }, epoch) {
  const at = epochs.indexOf(epoch), pairs = nav.O * nav.C;
  const codes = at < 0 ? now : lives.subarray(at * pairs, (at + 1) * pairs);
  const strongest = decibel(codes.reduce((most, code) => Math.max(most, code), 0));
  const db = Array.from(codes, (code) => decibel(code) - strongest);
  const lowest = db.reduce((least, value) => Math.min(least, value), 0);
  return { db, low: clamp(Math.floor(lowest / 5) * 5, -40, -5) };
}

// Words ---------------------------------------------------------------------------------------------------------------
// The chosen filter in one line.
export function words(s) {
  const { L } = s, pair = s.out * L.C + s.in, filters = L.O * L.C;
  const when = s.epoch ? `Epoch ${s.epoch}: ` : "";
  const [, , energy, centroid, bandwidth, angle, coherence] = L.row(s.epoch, s.out, s.in);
  if (s.mean && s.epoch) {
    const then = energy == null ? "" : ` (energy ${num(energy, 1)} dB of the strongest then)`;
    const why = s.all ? "" : `the run did not keep output ${s.out}, input ${s.in}${then}, so this is the `;
    return `${when}${why}root mean square over all ${filters} filters, without phases.`;
  }
  if (s.mean) return `All ${filters} filters: root mean square amplitude; phase and kernel of their mean.`;
  const one = `${when}${when ? "output" : "Output"} ${s.out}, input ${s.in}`;
  const parts = [`${one}: energy ${num(energy, 1)} dB of the strongest`];
  if (L.shares && !s.epoch) {
    parts.push(`global branch ${part(L.shareOf(pair))} of the output energy of both branches for white input`);
  }
  parts.push(`centroid ${num(centroid)}, bandwidth ${num(bandwidth)} of Nyquist, `
    + `${num(angle, 0)}° (coherence ${num(coherence)})`);
  if (s.raw && L.raw) parts.push(`raw plane: ${num(100 * L.ineffective, 1)} % of the level's stored energy never acts`);
  return parts.join("; ") + ".";
}

// The options of the level, or of both levels if they differ.
export function captions(s, names) {
  if (!s.B || s.B.caption === s.L.caption) return s.L.caption;
  const unknown = (level) => level.caption || "options unknown";
  return `${names[0]}: ${unknown(s.L)}. ${names[s.other]}: ${unknown(s.B)}`;
}
