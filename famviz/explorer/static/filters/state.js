// The data of an explorer: traits of the model, bytes of the filters, and the present choice.
// `app` holds all that belongs to one explorer.
import { decodeTables } from "../shared/colour.js";
import { clamp } from "../shared/numbers.js";
import { bytesOf, put } from "../shared/widget.js";
import { keptOf } from "./kept.js";
import { largeLevel } from "./large.js";
import { spread, unpack } from "./spectrum.js";

export function makeApp(model) {
  const meta = model.get("_meta");
  return {
    model, meta,
    tables: decodeTables(meta.tables),
    levels: {}, // unpacked levels, by run and level
    effects: new Map(), // what filters do to images, by level, image and channels
    asking: "", // which of them was asked for last
    found: {}, // rows of the table of large levels, by run and level
    asked: "", // which of them were asked for and are not there yet
    reading: "", // the large level that the kernel reads on in
    failed: {}, // why it could not, by run and level
    curves: [], // radial profiles, in dB
    readout: "", // the line about the chosen filter
    width: 0, // of the page, as last laid out
  };
}

// Choose a filter; an epoch stays.
export function choose(app, out, inn) {
  put(app, { c_out: out, c_in: inn, mean: false });
}

// Show an epoch by its position in the history; the position after the last one is the saved weights.
export function chooseEpoch(app, at) {
  put(app, { epoch: readState(app).L.epochs[at] ?? 0 });
}

// Bytes of filters, or undefined if the page does not hold them (yet).
function held(app, key) {
  return bytesOf(app.model.get("_whole")[key] ?? app.model.get("_rows")[key]);
}

// An unpacked level of a run by its position.
function levelOf(app, run, at) {
  const key = `${run}.${at}`, large = app.model.get("_figures")[key];
  if (large) return largeLevel(app, key, large);
  const bytes = ["base", "table", "kept"].map((part) => held(app, `${key}.${part}`));
  return (app.levels[key] ??= unpack(key, app.meta.levels[run][at], ...bytes));
}

// The position of a level in another run, as `LoadedRun.same_level` finds it; -1 if there is none.
function sameLevel(levels, { path, index }) {
  const at = levels.findIndex((each) => each.path === path);
  return at < 0 ? levels.findIndex((each) => each.index === index) : at;
}

// The present choice. L is the level of the first run, B the same level of the run to compare with if it has its shape.
export function readState(app) {
  const { model, meta } = app, get = (name) => model.get(name);
  const level = clamp(get("level"), 0, meta.levels[0].length - 1);
  const L = levelOf(app, 0, level);
  const epoch = L.epochs.includes(get("epoch")) ? get("epoch") : 0;
  const other = meta.runs.indexOf(get("other"), 1);
  const at = other > 0 ? sameLevel(meta.levels[other], L) : -1;
  const B = at < 0 ? null : sameShape(L, levelOf(app, other, at));
  const out = clamp(get("c_out"), 0, L.O - 1), inn = clamp(get("c_in"), 0, L.C - 1), all = get("mean");
  const together = all || (epoch > 0 && !keeps([L, B], epoch, out, inn));
  return {
    level, L, epoch, other, B, all, out, in: inn,
    peak: Math.max(L.reference, B ? B.reference : 0), // the largest amplitude of the level
    fixed: get("floor"), // dB of it; 0 if the range of the colours follows what is shown
    colours: app.tables[get("colormap")],
    wall: get("wall"),
    raw: get("raw") && !epoch, // of an epoch a run keeps what acts
    mean: together,
    view: epoch && together ? "amplitude" : get("view"), // a root mean square has no phase
  };
}

// Whether every level that has an epoch kept a filter of it.
function keeps(levels, epoch, out, inn) {
  return levels.every((L) => !L?.epochs.includes(epoch) || keptOf(L, epoch, out, inn));
}

function sameShape(L, B) {
  return ["O", "C", "H", "W"].every((name) => B[name] === L[name]) ? B : null;
}

// The chosen filter of a level as complex values. undefined while its row is on the way, null for an epoch that the run
// did not keep. The mean of all filters has the RMS amplitude in spectra, and its own amplitude in a kernel.
export function fieldOf(app, L, s, forKernel = false) {
  if (s.epoch) {
    const at = L.epochs.indexOf(s.epoch);
    if (at < 0) return null;
    if (s.mean) return spread(L, L.life.subarray(at * L.half, (at + 1) * L.half));
    return fieldThen(L, s.epoch, s.out, s.in);
  }
  if (s.mean) return spread(L, forKernel ? L.mean[0] : L.rms, L.mean[1]);
  return filterOf(app, L, s);
}

function fieldThen(L, epoch, out, inn) {
  const found = keptOf(L, epoch, out, inn);
  return found && spread(L, found.amplitude, found.phase);
}

// One filter of the first run by its channels, for the wall; undefined if the page does not hold it.
export function fieldOfPair(app, s, out, inn) {
  const { L } = s;
  if (s.epoch) return fieldThen(L, s.epoch, out, inn);
  const raw = s.raw && L.raw, found = filterOf(app, L, { ...s, out, in: inn });
  const at = found || raw || L.large ? -1 : L.order().indexOf(out * L.C + inn), bytes = held(app, L.key + ".wall");
  if (at < 0 || !bytes || at >= bytes.length / 2 / L.half) return found;
  return spread(L, bytes.subarray(at * L.half), bytes.subarray(bytes.length / 2 + at * L.half));
}

function filterOf(app, L, s) {
  if (L.large) {
    const found = L.find(s.out * L.C + s.in);
    return found && spread(L, found.amplitude, found.phase);
  }
  const raw = s.raw && L.raw, { key } = L;
  const size = raw ? L.H * L.W : L.half;
  const level = !raw && L.whole ? held(app, key) : undefined;
  const bytes = level || held(app, `${key}.${s.out}${raw ? ".raw" : ""}`);
  if (!bytes) return undefined;
  const filter = level ? s.out * L.C + s.in : s.in;
  const at = filter * size, phases = bytes.length / 2;
  return spread(L, bytes.subarray(at, at + size), bytes.subarray(phases + at, phases + at + size), raw);
}
