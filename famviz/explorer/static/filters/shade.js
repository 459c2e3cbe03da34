// How a view colours one spectrum, or in the panel of differences the difference of two.
import { shadeSigned } from "../shared/colour.js";
import { TAU, clamp, mod, num, weight } from "../shared/numbers.js";

export const darkness = (decibels, floor) => clamp(1 - decibels / floor, 0, 1);
export const below = (floor) => `below ${num(floor, 0)} dB`;
const phaseCode = (phase) => mod(Math.round((phase / TAU + 0.5) * 256), 256);
const loudness = (z, n, floor) => (z.db[n] > floor ? num(z.db[n], 1) + " dB" : below(floor));
const turn = (z, n) => num(z.phase[n]) + " rad";

export function shade(tables, s, view, z, kernel, top, isDifference) {
  const decibels = (value) => num(value, 1) + " dB", weak = `one of the two is ${below(s.floor)}`;
  if (view === "kernel") return shadeSigned(tables.signed, kernel, top, weight, weak);
  if (view === "phase") return shadePhase(tables.phase, z, s, isDifference);
  if (view === "complex") return shadeComplex(tables.complex, z, s, isDifference);
  if (isDifference) return shadeSigned(tables.signed, z.db, top, decibels, weak);
  return shadeAmplitude(s.colours, z, s);
}

// All that a spectrum has at a frequency. Where filters are averaged, the amplitude is not that of the phase.
function everything(z, n, { floor, reference, mean }) {
  const amplitude = `|H| ${weight(reference * 10 ** (z.db[n] / 20))}, ${num(z.db[n], 1)} dB`;
  if (!(z.db[n] > floor)) return `${below(floor)}`;
  return mean ? amplitude : `${amplitude}, phase ${turn(z, n)}`;
}

function shadeAmplitude(table, z, s) {
  const { floor, reference } = s;
  return {
    key: [table, num(floor, 0) + " dB", "0 dB is " + reference.toPrecision(3)],
    say: (n) => everything(z, n, s),
    colour: (n) => [table, Math.round(darkness(z.db[n], floor) * 255)],
  };
}

function shadePhase(table, z, s, isDifference) {
  const { floor } = s, weak = (isDifference ? "one of the two is " : "") + below(floor);
  return {
    key: [table, "−π", "π"],
    say: (n) => (!(z.db[n] > floor) ? weak : isDifference ? turn(z, n) : everything(z, n, s)),
    colour: (n) => (z.db[n] > floor ? [table, phaseCode(z.phase[n])] : null),
  };
}

function shadeComplex(table, z, s, isDifference) {
  const { floor } = s;
  const said = (n) => (isDifference ? `${loudness(z, n, floor)}, ${turn(z, n)}` : everything(z, n, s));
  return {
    key: [table, "−π", "phase", "π"],
    sides: ["0 dB", num(floor, 0)],
    say: (n) => (z.db[n] > floor ? said(n) : below(floor)),
    colour: (n) => [table, phaseCode(z.phase[n]), darkness(z.db[n], floor)],
  };
}
