// Fourier transforms of any length, and maps that are rebuilt from a band of frequencies.
// What takes long is a generator that stops between rows, so that a page can answer keys in between.
import { TAU } from "../shared/numbers.js";
import { gridOf, insideOf } from "./grid.js";

const waves = new Map(); // cosines and sines of a length

function wave(n) {
  if (!waves.has(n)) {
    const of = (turn) => Float64Array.from({ length: n }, (_, k) => turn(TAU * k / n));
    waves.set(n, [of(Math.cos), of(Math.sin)]);
  }
  return waves.get(n);
}

const SHORT = 16; // numbers that are summed directly, which is faster than to split them
const factorOf = (n) => [2, 3, 5, 7, 11, 13].find((prime) => n % prime === 0) ?? n;

// The transform of n numbers, first, first + stride, ..., as [real, imaginary]; `sign` is -1, and 1 for the inverse.
export function transform(re, im, sign, n = re.length, first = 0, stride = 1) {
  const p = n > SHORT ? factorOf(n) : n;
  if (p === n) return direct(re, im, sign, n, first, stride);
  const m = n / p, outRe = new Float64Array(n), outIm = new Float64Array(n), [cos, sin] = wave(n);
  for (let r = 0; r < p; r++) {
    const [a, b] = transform(re, im, sign, m, first + r * stride, stride * p);
    for (let k = 0; k < n; k++) {
      const t = r * k % n, c = cos[t], s = sign * sin[t], at = k % m;
      outRe[k] += a[at] * c - b[at] * s;
      outIm[k] += a[at] * s + b[at] * c;
    }
  }
  return [outRe, outIm];
}

// The same by its definition.
function direct(re, im, sign, n, first, stride) {
  const outRe = new Float64Array(n), outIm = new Float64Array(n), [cos, sin] = wave(n);
  for (let k = 0; k < n; k++) {
    let a = 0, b = 0, t = 0;
    for (let r = 0, at = first; r < n; r++, at += stride) {
      const c = cos[t], s = sign * sin[t];
      a += re[at] * c - im[at] * s;
      b += re[at] * s + im[at] * c;
      t += k;
      if (t >= n) t -= n;
    }
    outRe[k] = a;
    outIm[k] = b;
  }
  return [outRe, outIm];
}

// Transform rows, then columns, in place. Rows without a value stay.
function* transformPlane(re, im, H, W, sign) {
  for (let i = 0; i < H; i++) {
    const row = re.subarray(i * W, i * W + W), other = im.subarray(i * W, i * W + W);
    if (row.every((value) => !value) && other.every((value) => !value)) continue;
    const [a, b] = transform(row, other, sign);
    row.set(a);
    other.set(b);
    yield;
  }
  for (let j = 0; j < W; j++) {
    const [a, b] = transform(re, im, sign, H, j, W);
    for (let i = 0; i < H; i++) {
      re[i * W + j] = a[i];
      im[i * W + j] = b[i];
    }
    yield;
  }
}

// The spectrum of a real map H x W, DC first.
export function* spectrumOf(values, [H, W]) {
  const re = Float64Array.from(values), im = new Float64Array(H * W);
  yield* transformPlane(re, im, H, W, -1);
  return { re, im, size: [H, W] };
}

// The map of the frequencies in a band alone.
export function* rebuilt({ re, im, size }, band) {
  const [H, W] = size, inside = insideOf(gridOf(size), band);
  const outRe = new Float64Array(H * W), outIm = new Float64Array(H * W);
  for (let i = 0; i < H; i++) for (let j = 0; j < W; j++) {
    const ky = (i + (H >> 1)) % H, kx = (j + (W >> 1)) % W;
    if (!inside(ky * W + kx)) continue;
    outRe[i * W + j] = re[i * W + j] / (H * W);
    outIm[i * W + j] = im[i * W + j] / (H * W);
  }
  yield* transformPlane(outRe, outIm, H, W, 1);
  return outRe;
}
