// The radial and the angular profile of all networks, or how far they are from the reference.
import { h } from "../shared/dom.js";
import { mod, num } from "../shared/numbers.js";
import { put } from "../shared/widget.js";
import { DIRECTIONS, STEP, bandWords } from "./grid.js";
import { UNITS } from "./planes.js";
import { makeProfile, showProfile } from "./profiles.js";
import { bandsOf, readState, ringIn, shownOf } from "./state.js";

const TICKS = 8; // texts at most on the axis of rings

export function buildCurves(app) {
  const ringAt = (at) => at + 1; // DC has no place on the axis
  const radial = makeProfile({
    label: "radial profile; drag or arrow keys choose rings",
    choose: (first, last) => chooseRings(app, ringAt(first), ringAt(last)),
    step: (by, grow) => stepRings(app, by, grow),
    tell: (at) => app.tell(wordsAt(app, "radial", ringAt(at))),
    forget: () => app.forget(),
  });
  const angular = makeProfile({
    label: "angular profile; drag or arrow keys choose directions",
    choose: (first, last) => chooseAngles(app, first, last),
    step: (by, grow) => stepAngles(app, by, grow),
    tell: (at) => app.tell(wordsAt(app, "angular", at)),
    forget: () => app.forget(),
  });
  return { radial, angular };
}

// A band is put only if it changed, because every put is sent to the kernel.
export function putBand(app, band) {
  const same = (name) => String(app.model.get(name)) === String(band[name]);
  const changed = Object.keys(band).filter((name) => !same(name));
  if (changed.length) put(app, Object.fromEntries(changed.map((name) => [name, band[name]])));
}

export function chooseRings(app, first, last) {
  const { grid } = readState(app);
  putBand(app, { rings: [ringIn(grid, first), ringIn(grid, last)] });
}

export const chooseAngles = (app, first, last) => putBand(app, { angles: [first * STEP, last * STEP] });

// Move the rings, or their outer end.
function stepRings(app, by, grow) {
  const { grid, band: { rings } } = readState(app);
  if (!rings.length) return chooseRings(app, 1, 1);
  const [first, last] = rings;
  if (grow) return chooseRings(app, first, Math.max(first, last + by));
  if (first + by >= 1 && last + by <= grid.last) chooseRings(app, first + by, last + by);
}

// Move the directions around, or their second end.
function stepAngles(app, by, grow) {
  const { angles } = readState(app).band;
  if (!angles.length) return chooseAngles(app, 0, 0);
  const [first, last] = angles.map((angle) => angle / STEP), turn = (at) => mod(at + by, DIRECTIONS);
  const widest = by > 0 && mod(last - first, DIRECTIONS) === DIRECTIONS - 1;
  if (!grow) chooseAngles(app, turn(first), turn(last));
  else if (!widest && (by > 0 || first !== last)) chooseAngles(app, first, turn(last));
}

export function showCurves(app, s) {
  const { radial, angular } = app.ui.curves, gap = s.profile === "difference";
  const minus = gap ? ` minus ${s.reference}` : "";
  const key = JSON.stringify([s.key, s.reference, s.profile, s.band, app.version]);
  const rings = Array.from({ length: s.grid.last }, (_, at) => at + 1), step = Math.ceil(s.grid.last / TICKS);
  showProfile(radial, key, {
    positions: rings, label: "radial frequency, cycles per map", title: UNITS[s.relative] + minus,
    texts: rings.filter((ring) => ring % step === 0 || ring === 1).map((ring) => [ring - 1, ring]),
    ranges: s.band.rings[0] <= s.grid.last ? [s.band.rings.map((ring) => ringIn(s.grid, ring) - 1)] : [],
  }, linesOf(app, s, "radial", 1));
  showProfile(angular, key, {
    positions: Array.from({ length: DIRECTIONS }, (_, at) => at),
    label: "direction of the wave: 0° along x, 90° along y",
    title: "dB above the mean of the rings" + minus,
    texts: [0, 3, 6, 9].map((at) => [at, at * STEP + "°"]), ranges: angleRanges(s.band.angles),
  }, linesOf(app, s, "angular", 0));
  showLegend(app, s);
}

// A wedge that passes 0 degrees is two ranges.
function angleRanges(angles) {
  if (!angles.length) return [];
  const [first, last] = angles.map((angle) => angle / STEP);
  return first <= last ? [[first, last]] : [[0, last], [first, DIRECTIONS - 1]];
}

// What a profile draws of the networks, from a position on. One image has no interval.
function linesOf(app, s, kind, from) {
  const curves = shownOf(app, s)[kind], gap = s.profile === "difference";
  const names = gap ? s.others.filter(() => s.present.includes(s.reference)) : s.present;
  return names.map((name) => {
    const own = Array.from(curves[name]).slice(from), base = gap && Array.from(curves[s.reference]).slice(from);
    const ends = intervalOf(app, s, kind, name);
    const [low, high] = ends ? ends.map((values) => Array.from(values).slice(from)) : [];
    return { values: gap ? own.map((value, at) => value - base[at]) : own, low, high, style: styleOf(s, name) };
  });
}

// The 95 % interval of the curve of a network; undefined for one image, and until it has come.
function intervalOf(app, s, kind, name) {
  const found = s.image < 0 && bandsOf(app, s);
  if (!found || found.count !== s.mean.count) return undefined;
  return found.stages[s.stage][s.profile === "difference" ? kind + "Gaps" : kind][name];
}

export const styleOf = (s, name) => (name === s.reference ? "fv-reference" : `fv-net${s.names.indexOf(name) % 6}`);

function showLegend(app, s) {
  const entries = s.present.map((name) => {
    const onclick = () => put(app, { network: name });
    return h("button", { className: `fv-key ${styleOf(s, name)}`, onclick, title: "show its maps and images" },
      name + (name === s.reference ? " (reference)" : ""));
  });
  const key = JSON.stringify([s.present, s.reference]);
  if (app.ui.legend.dataset.key === key) return;
  app.ui.legend.dataset.key = key;
  app.ui.legend.replaceChildren(...entries);
}

// The values of all networks on a ring or in a direction.
function wordsAt(app, kind, at) {
  const s = readState(app), curves = shownOf(app, s)[kind], gap = s.profile === "difference";
  const share = num(100 * at / s.grid.last, 0);
  const place = kind === "radial" ? `ring ${at}, ${share} % of Nyquist` : `direction ${at * STEP}°`;
  const words = (gap ? s.others : s.present).map((name) => {
    const value = curves[name][at] - (gap ? curves[s.reference]?.[at] ?? 0 : 0), ends = intervalOf(app, s, kind, name);
    if (Number.isNaN(value)) return `${name} no frequency`;
    return `${name} ${num(value)}` + (ends ? ` [${num(ends[0][at])}, ${num(ends[1][at])}]` : "");
  });
  return `${place}, dB: ${words.join("; ")}. Chosen: ${bandWords(s.band)}.`;
}
