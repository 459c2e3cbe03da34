// The data of a dashboard: what the logs say, the pictures of filters that have come, and the present choice.
// `app` holds all that belongs to one dashboard.
import { decodeTables } from "../shared/colour.js";
import { clamp } from "../shared/numbers.js";
import { bytesOf } from "../shared/widget.js";

export function makeApp(model) {
  const meta = model.get("_meta");
  return {
    model, meta,
    tables: decodeTables(meta.tables),
    pictures: new Map(), // amplitudes on the whole plane, by pictureKey
    missing: new Set(), // epochs that the kernel could not give, "run|epoch"
    looks: { count: 0 }, // colour scales by level, for a number of pictures
    hovered: null, // the epoch under the pointer
    width: 0, // of the page, as last laid out
  };
}

export const pictureKey = (run, level, epoch) => `${run}|${level}|${epoch}`;

// The present choice. `runs` are the logs with their names; `at` is the epoch whose values are shown.
export function readState(app) {
  const { model, meta } = app, get = (name) => model.get(name);
  const runs = get("_runs").map((facts, n) => ({ ...facts, n, name: meta.runs[n] }));
  const last = runs.reduce((most, run) => Math.max(most, run.epoch), 0);
  const pinned = clamp(get("epoch"), 0, last);
  return {
    runs, last, pinned,
    at: app.hovered ?? (pinned || last),
    scores: allOf(runs, "scores"), losses: allOf(runs, "losses"),
    figure: get("figure"), loss: get("loss"), log: get("log"),
  };
}

const allOf = (runs, name) => [...new Set(runs.flatMap((run) => run[name]))];

// The value of a column of a run after an epoch; null if there is none.
export function valueAt({ columns }, name, epoch) {
  const at = columns.epoch?.indexOf(epoch) ?? -1;
  return at < 0 ? null : columns[name]?.[at] ?? null;
}

// The last value of a column that there is.
export function lastOf({ columns }, name) {
  return columns[name]?.findLast((value) => value != null) ?? null;
}

// What the kernel answered: pictures of filters after some epochs.
export function receive(app, { kind, run, epochs, missing }, buffers) {
  if (kind !== "filters") return;
  const { levels } = app.model.get("_runs")[run];
  epochs.forEach((epoch, e) => levels.forEach(({ size }, level) => {
    const bytes = bytesOf(buffers[e * levels.length + level]);
    app.pictures.set(pictureKey(run, level, epoch), whole(size, new Float32Array(bytes.slice().buffer)));
  }));
  for (const epoch of missing) app.missing.add(`${run}|${epoch}`);
}

// The centred plane of a half spectrum of amplitudes.
export function whole([H, W], half) {
  const plane = new Float32Array(H * W), columns = (W >> 1) + 1;
  for (let i = 0; i < H; i++) for (let j = 0; j < W; j++) {
    const ky = (i - (H >> 1) + H) % H, kx = (j - (W >> 1) + W) % W;
    plane[i * W + j] = kx < columns ? half[ky * columns + kx] : half[((H - ky) % H) * columns + W - kx];
  }
  return plane;
}
