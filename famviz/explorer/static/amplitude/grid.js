// Rings and directions of the frequencies of a centred plane, and what is measured along them.
import { mod } from "../shared/numbers.js";

export const STEP = 15; // degrees of a direction
export const DIRECTIONS = 12;
const grids = new Map();

// Of each frequency its ring, its direction and its place; `last` is the ring of Nyquist, `corner` the outermost.
export function gridOf([H, W]) {
  const name = `${H}x${W}`;
  if (!grids.has(name)) grids.set(name, makeGrid(H, W));
  return grids.get(name);
}

function makeGrid(H, W) {
  const ring = new Int16Array(H * W), direction = new Int8Array(H * W), shorter = Math.min(H, W);
  for (let n = 0; n < H * W; n++) {
    const ky = Math.floor(n / W) - (H >> 1), kx = n % W - (W >> 1);
    ring[n] = nearestEven(Math.hypot(ky / (H / 2), kx / (W / 2)) * (shorter / 2));
    const degrees = mod(Math.atan2(ky / H, kx / W) * 180 / Math.PI, 180);
    direction[n] = Math.round(degrees / STEP) % DIRECTIONS;
  }
  const corner = ring.reduce((most, value) => Math.max(most, value), 0);
  return { H, W, ring, direction, last: shorter >> 1, corner, dc: (H >> 1) * W + (W >> 1) };
}

// Rounded as numpy rounds: from the middle of two whole numbers, as far as 9 digits tell, to the even one.
function nearestEven(exact) {
  const value = Math.round(exact * 1e9) / 1e9;
  const up = Math.round(value);
  return value % 1 === 0.5 && up % 2 ? up - 1 : up;
}

// Mean of a plane over each ring, from DC to Nyquist.
export function radialCurve(grid, plane) {
  const sums = new Float64Array(grid.last + 1), counts = sums.slice();
  plane.forEach((value, n) => {
    const ring = grid.ring[n];
    if (ring > grid.last) return;
    sums[ring] += value;
    counts[ring]++;
  });
  return sums.map((sum, ring) => sum / Math.max(1, counts[ring]));
}

// How far each direction is above the mean of its rings, from ring 1 to Nyquist; NaN where a direction has nothing.
export function angularCurve(grid, plane) {
  const curve = radialCurve(grid, plane), sums = new Float64Array(DIRECTIONS), counts = sums.slice();
  plane.forEach((value, n) => {
    const ring = grid.ring[n];
    if (!ring || ring > grid.last) return;
    sums[grid.direction[n]] += value - curve[ring];
    counts[grid.direction[n]]++;
  });
  return sums.map((sum, at) => (counts[at] ? sum / counts[at] : NaN));
}

export const hasBand = ({ rings, angles }) => rings.length + angles.length > 0;

// Whether a ring and a direction are in a band. DC is in none.
export function isInside({ rings, angles }, ring, direction) {
  if (!ring || (rings.length && (ring < rings[0] || ring > rings[1]))) return false;
  if (!angles.length) return true;
  const [first, last] = angles.map((angle) => angle / STEP);
  return mod(direction - first, DIRECTIONS) <= mod(last - first, DIRECTIONS);
}

// The same for the frequencies of a grid, by their number.
export const insideOf = (grid, band) => (n) => isInside(band, grid.ring[n], grid.direction[n]);

// A band in words.
// Whether no band is chosen.
export const isWhole = ({ rings, angles }) => !rings.length && !angles.length;

export function bandWords({ rings, angles }) {
  const words = [];
  if (rings.length) words.push(rings[0] === rings[1] ? `ring ${rings[0]}` : `rings ${rings[0]} to ${rings[1]}`);
  if (angles.length) words.push(angles[0] === angles[1] ? `${angles[0]}°` : `${angles[0]}° to ${angles[1]}°`);
  return words.join(", ") || "all frequencies but DC";
}
