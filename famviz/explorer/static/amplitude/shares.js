// How much of the energy of each image is in a band.
import { DIRECTIONS, isInside } from "./grid.js";

const DRAWS = 500; // of the bootstrap

// Share of a band in the energy of each image apart from DC. `cells` are shares of rings and directions by image.
export function sharesOf(cells, count, band) {
  const size = cells.length / count, inside = [];
  for (let at = 0; at < size; at++) if (isInside(band, Math.floor(at / DIRECTIONS), at % DIRECTIONS)) inside.push(at);
  return Float64Array.from({ length: count }, (_, image) => {
    let sum = 0;
    for (const at of inside) sum += cells[image * size + at];
    return sum;
  });
}

export const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

// 95 % interval of the mean, by resampling the images; always the same for the same values.
export function interval(values) {
  let state = 1;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 4294967296;
  };
  const means = Float64Array.from({ length: DRAWS }, () => {
    let sum = 0;
    for (let n = 0; n < values.length; n++) sum += values[Math.floor(next() * values.length)];
    return sum / values.length;
  }).sort();
  const at = (q) => {
    const place = q * (DRAWS - 1), low = Math.floor(place);
    return means[low] + (place - low) * (means[Math.min(low + 1, DRAWS - 1)] - means[low]);
  };
  return [at(0.025), at(0.975)];
}

// Positions among the values, the largest first.
export function largestFirst(values) {
  return Array.from(values.keys()).sort((a, b) => values[b] - values[a] || a - b);
}
