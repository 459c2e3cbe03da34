// Arrays at other sizes, and the edges of masks.
import { clamp } from "./numbers.js";

// Values h x w, not below 0, at the size H x W: bilinear, as F.interpolate with align_corners=False.
export function enlarge(values, h, w, H, W) {
  const out = new Float32Array(H * W), [left, right, share] = between(w, W), [top, bottom, part] = between(h, H);
  const at = (i, j) => Math.max(0, values[i * w + j]);
  for (let i = 0; i < H; i++) for (let j = 0; j < W; j++) {
    const above = at(top[i], left[j]) * (1 - share[j]) + at(top[i], right[j]) * share[j];
    const below = at(bottom[i], left[j]) * (1 - share[j]) + at(bottom[i], right[j]) * share[j];
    out[i * W + j] = above * (1 - part[i]) + below * part[i];
  }
  return out;
}

// For each of N places the two of n that it lies between, and its share of the second.
function between(n, N) {
  const low = new Int32Array(N), high = new Int32Array(N), share = new Float64Array(N);
  for (let k = 0; k < N; k++) {
    const place = Math.max(0, (k + 0.5) * n / N - 0.5);
    low[k] = Math.min(Math.floor(place), n - 1);
    high[k] = Math.min(low[k] + 1, n - 1);
    share[k] = clamp(place - low[k], 0, 1);
  }
  return [low, high, share];
}

// The least of the values in the top share, from all values in rising order.
export function leastOfTop(sorted, share) {
  const count = Math.max(1, Math.round(share * sorted.length));
  return sorted[sorted.length - count];
}

// How many of the sorted values are below a value.
export function countBelow(sorted, value) {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

// The path along the pixels' edges between inside and outside; beyond the frame is `outside`.
export function edges(H, W, inside, outside = false) {
  const at = (i, j) => (i < 0 || j < 0 || i >= H || j >= W ? outside : inside(i * W + j));
  let path = "";
  for (let i = 0; i <= H; i++) for (let j = 0; j <= W; j++) {
    if (j < W && at(i - 1, j) !== at(i, j)) path += `M${j} ${i}h1`;
    if (i < H && at(i, j - 1) !== at(i, j)) path += `M${j} ${i}v1`;
  }
  return path;
}
