// An image and maps of networks, and what is left of them in the band alone.
import { putPixels, shadeSigned } from "../shared/colour.js";
import { h } from "../shared/dom.js";
import { clamp, largest, num, weight } from "../shared/numbers.js";
import { drawPanel, framePanel, panel } from "../shared/panel.js";
import { rebuilt, spectrumOf } from "./fourier.js";
import { hasBand } from "./grid.js";
import { mapsOf, rememberedSteps } from "./state.js";

const COLUMNS = 4, PART = 1 / 14; // maps in a row of a mosaic, and the space between two as a part of a map
const PHOTO = 96; // pixels of a side above which a picture is drawn smooth
const BOX = { least: 124, most: 230, gap: 10, edge: 5, count: 6 }; // px of a picture and around it, pictures in a row

export function buildRebuilt() {
  const pair = () => ({ plain: panel("maps"), band: panel("maps") });
  const parts = { picture: panel("picture"), band: panel("picture"), first: pair(), second: pair() };
  const { picture, band, first, second } = parts;
  const panels = [picture, band, first.plain, first.band, second.plain, second.band];
  return { ...parts, panels, root: h("div", { className: "fv-row fv-rebuilt" }, ...panels.map((p) => p.root)) };
}

// Draw the maps of the reference and of the chosen network, and the picture; returns false while they have not come.
// A generator: it stops between rows of a transform, and the caller goes on when it has time.
export function* drawRebuilt(app, s) {
  const { picture, band, first, second, root } = app.ui.rebuilt, held = mapsOf(app, s, s.subject);
  root.hidden = !held?.picture;
  if (root.hidden) return false;
  const choice = [s.epoch, s.subject, s.stage, s.band], room = (app.width || 960) + BOX.gap;
  const box = clamp(Math.floor(room / BOX.count) - BOX.gap - BOX.edge, BOX.least, BOX.most);
  yield* drawPicture(app, s, picture, band, held.picture, box);
  const names = [...new Set([s.reference, s.network])].filter((name) => held.stages[s.stage][name]);
  for (const [at, pair] of [first, second].entries()) {
    for (const p of [pair.plain, pair.band]) p.root.hidden = !names[at];
    if (names[at]) yield* drawMaps(app, s, pair, names[at], held.stages[s.stage][names[at]], choice, box);
  }
  return true;
}

function* drawPicture(app, s, plain, band, pixels, box) {
  const { width: W, height: H } = pixels, size = { box, H, W }, none = { key: [app.tables.map], say: null };
  const label = app.thumbs.get(s.subject)?.label;
  framePanel(plain, { ...size, title: `image ${s.subject}${label ? `, ${label}` : ""}` }, none);
  putPixels(plain.canvas, pixels);
  const colours = [];
  for (let k = 0; k < 3; k++) {
    const values = Float64Array.from({ length: H * W }, (_, n) => pixels.data[4 * n + k]);
    const place = [s.subject, H, W], spectrum = yield* rememberedSteps(app, "colour" + k, place, () =>
      spectrumOf(values, [H, W]));
    colours.push(yield* rememberedSteps(app, "picture" + k, [...place, s.band], () => rebuilt(spectrum, s.band)));
  }
  const top = Math.max(1e-6, ...colours.map(largest)), contrast = Math.min(127 / top, 99);
  framePanel(band, { ...size, title: `${bandTitle(s)}, contrast × ${num(contrast, 1)}` }, none);
  const image = new ImageData(W, H);
  for (let n = 0; n < H * W; n++) {
    for (let k = 0; k < 3; k++) image.data[4 * n + k] = clamp(Math.round(128 + contrast * colours[k][n]), 0, 255);
    image.data[4 * n + 3] = 255;
  }
  putPixels(band.canvas, image);
  for (const p of [plain, band]) p.root.classList.toggle("fv-photo", Math.max(H, W) > PHOTO);
  plain.say = (n) => `red, green, blue ${[...pixels.data.subarray(4 * n, 4 * n + 3)].join(", ")}`;
  band.say = (n) => `red, green, blue ${colours.map((values) => num(values[n], 1)).join(", ")} from the mean`;
}

const bandTitle = (s) => (hasBand(s.band) ? "from the band alone" : "without its mean");

function* drawMaps(app, s, { plain, band }, name, maps, choice, box) {
  const { size: [H, W], channels, values } = maps, count = channels.length;
  const each = (at) => values.subarray(at * H * W, (at + 1) * H * W);
  const some = [];
  for (let at = 0; at < count; at++) {
    const place = [s.epoch, s.subject, s.stage], spectrum = yield* rememberedSteps(app, `spectrum ${name} ${at}`, place,
      () => spectrumOf(each(at), [H, W]));
    some.push(yield* rememberedSteps(app, `map ${name} ${at}`, choice, () => rebuilt(spectrum, s.band)));
  }
  const low = values.reduce((least, value) => Math.min(least, value), Infinity);
  const high = values.reduce((most, value) => Math.max(most, value), -Infinity);
  const table = app.tables.map, shade = (value) => Math.round((value - low) / (high - low || 1) * 255);
  drawMosaic(plain, box, count, [H, W], `${name}: ${count} of ${maps.of} maps of ${app.meta.stages[s.stage]}`, {
    key: [table, weight(low), weight(high)],
    colour: (at, n) => [table, shade(each(at)[n])],
    say: (at, n) => `map ${channels[at]}: ${weight(each(at)[n])}`,
  });
  const top = Math.max(1e-12, ...some.map(largest)), signed = shadeSigned(app.tables.signed, [], top, weight, "");
  const index = (value) => clamp(Math.round((value / top + 1) / 2 * 255), 0, 255);
  drawMosaic(band, box, count, [H, W], `${name}: ${bandTitle(s)}`, {
    key: signed.key,
    colour: (at, n) => [app.tables.signed, index(some[at][n])],
    say: (at, n) => `map ${channels[at]} from the band: ${weight(some[at][n])}`,
  });
}

// Maps of one size side by side. `colour(at, n)` and `say(at, n)` are about pixel n of map `at`.
function drawMosaic(p, box, count, [H, W], title, { key, colour, say }) {
  const columns = Math.min(COLUMNS, count), rows = Math.ceil(count / columns);
  const gap = Math.max(1, Math.round(PART * Math.max(H, W))); // so that it is seen where maps are drawn small
  const height = rows * (H + gap) - gap, width = columns * (W + gap) - gap;
  const place = (pixel) => {
    const i = Math.floor(pixel / width), j = pixel % width, y = i % (H + gap), x = j % (W + gap);
    const at = Math.floor(i / (H + gap)) * columns + Math.floor(j / (W + gap));
    return y < H && x < W && at < count ? [at, y * W + x] : null;
  };
  drawPanel(p, { box, H: height, W: width, title }, {
    key,
    colour: (pixel) => {
      const found = place(pixel);
      return found && colour(...found);
    },
    say: (pixel) => {
      const found = place(pixel);
      return found ? say(...found) : "between two maps";
    },
  });
}
