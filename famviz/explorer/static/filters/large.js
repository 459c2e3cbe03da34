// Levels that are too large for memory: the page holds an overview of their energies, sets of single filters, and the
// rows of the table that were asked for. large.py writes the bytes.
import { bytesOf } from "../shared/widget.js";

const SCALES = [-400, 40000, 40000, 100, 60000, 60000]; // of the codes of a set: the table, share of the global branch
const NOT_KNOWN = 65535; // in place of the strongest filter of a block
const unpacked = new WeakMap(); // sets by their bytes

// A Map from the pair of channels to {amplitude, phase, figures, share}, in the order of the bytes.
function unpackSet(bytes, half, count = bytes.length / (4 + 2 * half + 2 * SCALES.length), from = 0) {
  let at = from;
  const next = (length) => bytes.slice(at, (at += length)); // whose numbers may begin at any byte
  const pairs = new Uint32Array(next(4 * count).buffer), amplitude = next(count * half), phase = next(count * half);
  const rows = tableOf(next(2 * SCALES.length * count), count);
  const entries = rows.map(([...figures], n) => {
    const own = [n * half, (n + 1) * half], share = figures.pop();
    return [pairs[n], { amplitude: amplitude.subarray(...own), phase: phase.subarray(...own), figures, share }];
  });
  return { filters: new Map(entries), end: at };
}

function tableOf(bytes, count) {
  const codes = new Uint16Array(bytes.buffer);
  return Array.from({ length: count }, (_, n) => SCALES.map((scale, k) => codes[k * count + n] / scale));
}

// Rows of the table from an answer: [out, in, figures ...].
function unpackRows(bytes, count, C) {
  const pairs = new Uint32Array(bytes.slice(0, 4 * count).buffer);
  return tableOf(bytes.slice(4 * count), count).map((figures, n) =>
    [Math.floor(pairs[n] / C), pairs[n] % C, ...figures.slice(0, -1)]);
}

// A level of the page as `unpack` returns others. It is built again only if the kernel has sent it again.
export function largeLevel(app, key, figures) {
  const parts = app.model.get("_large"), known = app.levels[key];
  if (known?.figures === figures) return known;
  const level = unpackLarge(figures, ...["base", "kept", "wall"].map((part) => bytesOf(parts[`${key}.${part}`])));
  Object.assign(level, { figures, key, held: () => heldOf(app, level), find: (pair) => level.held().get(pair) });
  return (app.levels[key] = level);
}

function unpackLarge(figures, base, kept, wall) {
  const [O, C] = figures.channels, [H, W] = figures.size, { grid, step } = figures.large;
  const half = H * ((W >> 1) + 1), epochs = figures.epochs.length, blocks = grid[0] * grid[1];
  let at = 0;
  const next = (length) => base.subarray(at, (at += length));
  const best = new Uint16Array(next(2 * blocks).slice().buffer), now = next(blocks), gain = next(H * W);
  const [rms, amplitude, phase, life, lives] = [half, half, half, epochs * half, epochs * blocks].map(next);
  const level = { ...figures, O, C, H, W, half, gain, rms, mean: [amplitude, phase], now, life, lives };
  level.nav = { O: grid[0], C: grid[1], step, best };
  level.wall = unpackSet(wall, half).filters;
  let end = 0;
  const sets = figures.kept.map((count) => {
    const set = unpackSet(kept, half, count, end);
    end = set.end;
    return set.filters;
  });
  level.kept = () => sets;
  const row = (pair, figures) => [Math.floor(pair / C), pair % C, ...figures];
  const then = (epoch) => sets[figures.epochs.indexOf(epoch)] ?? new Map();
  level.rows = (epoch) => Array.from(then(epoch), ([pair, found]) => row(pair, found.figures));
  level.row = (epoch, out, inn) => {
    const pair = out * C + inn, found = epoch ? then(epoch).get(pair) : level.find(pair);
    return row(pair, found?.figures ?? [null, null, null, null, null]);
  };
  level.shareOf = (pair) => 255 * (level.find(pair)?.share ?? 0);
  return level;
}

// All single filters of a level that the page holds: those of the chosen channels, and the strongest.
function heldOf(app, level) {
  const rows = app.model.get("_rows");
  if (level.from === rows) return level.all;
  const all = new Map(level.wall);
  for (const name in rows) {
    if (!name.startsWith(`${level.key}.in`) && !name.startsWith(`${level.key}.out`)) continue;
    if (!unpacked.has(rows[name])) unpacked.set(rows[name], unpackSet(bytesOf(rows[name]), level.half).filters);
    for (const [pair, found] of unpacked.get(rows[name])) all.set(pair, found);
  }
  Object.assign(level, { from: rows, all });
  return all;
}

// The pairs of the wall, the strongest first, of those that are held.
export function pairsOfLarge(L, epoch, channel, most) {
  const filters = epoch ? L.kept()[L.epochs.indexOf(epoch)] : channel ? L.held() : L.wall;
  const strongest = Array.from(filters ?? []).sort((a, b) => b[1].figures[0] - a[1].figures[0]);
  const pairs = strongest.map(([pair]) => [Math.floor(pair / L.C), pair % L.C]);
  return pairs.filter((pair) => !channel || channel(pair)).slice(0, most);
}

// Which filter a pixel of the map of energies stands for: the strongest of its block.
export function pairAt({ nav, O, C }, i, j) {
  const { step, best } = nav, at = best?.[i * nav.C + j] ?? 0;
  const inside = at === NOT_KNOWN ? 0 : at;
  return [Math.min(O - 1, i * step + Math.floor(inside / step)), Math.min(C - 1, j * step + inside % step)];
}

export const isKnown = ({ nav }, n) => nav.best?.[n] !== NOT_KNOWN;

// How far a level is read, in words; "" once all of it is.
export function progressOf({ large }, failed) {
  if (failed) return `Reading this level failed: ${failed}`;
  if (!large || large.complete) return "";
  const energies = large.estimated ? " Energies are those that the training wrote, rounded." : "";
  if (large.read === 1) return "All filters are read; the file is compared with its checksum.";
  return `${Math.floor(100 * large.read)} % of the filters are read so far, evenly spread over the input channels: `
    + `means, the range of amplitudes and the table are of these.${energies}`;
}

// Ask the kernel to read on in the levels that are shown, one question after the other.
export function askForMore(app, s) {
  if (app.meta.alone || app.reading) return;
  const levels = [s.L, s.B].filter((L) => L?.large && !L.large.complete && !app.failed[L.key]);
  if (!levels.length) return;
  app.reading = levels[0].key;
  app.model.send({ ask: "survey", key: app.reading });
}

// Ask for rows of the table; the last answer stays until the next one is there. `wanted` is {search, sort}.
export function rowsOf(app, L, wanted) {
  const question = { ask: "rows", key: L.key, ...wanted }, id = JSON.stringify([question, L.large.complete]);
  const found = app.found[L.key];
  if (app.meta.alone || found?.id === id) return found;
  if (!app.asked) {
    app.asked = id;
    app.model.send(question);
  }
  return found;
}

// What the kernel answered.
export function receiveLarge(app, content, buffers) {
  const { kind, key, failed, question } = content;
  if (kind === "survey") {
    app.reading = "";
    if (failed) app.failed[key] = failed;
  }
  if (kind === "rows") {
    const at = question.key, [run, level] = at.split("."), C = app.meta.levels[run][level].channels[1];
    const rows = failed ? [] : unpackRows(bytesOf(buffers[0]), content.shown, C);
    app.found[at] = { ...content, id: app.asked, rows };
    app.asked = "";
  }
}
