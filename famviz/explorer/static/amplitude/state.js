// The data of an amplitude explorer: what the kernel has sent so far, and the present choice.
import { decode, pixelsOf } from "../shared/bitmap.js";
import { decodeTables } from "../shared/colour.js";
import { clamp } from "../shared/numbers.js";
import { bytesOf } from "../shared/widget.js";
import { angularCurve, gridOf, isWhole, radialCurve } from "./grid.js";
import { interval, largestFirst, mean, sharesOf } from "./shares.js";

export const ALL = -1; // of the images

export function makeApp(model) {
  const meta = model.get("_meta");
  return {
    model, meta,
    tables: decodeTables(meta.tables),
    spectra: new Map(), // by look: {count, stages: [{network: {plane, loudness, dc}}]}
    bands: new Map(), // by look, reference and relative: {count, stages}
    cells: new Map(), // by look: {images, stages: [{network: shares}]}
    planes: new Map(), // by look and image: stages as in spectra
    maps: new Map(), // by epoch and image: {picture, stages: [{network: {channels, of, size, values}}]}
    thumbs: new Map(), // by image: {bitmap, label}
    kept: new Map(), // what was computed last, by name: [key, value]
    version: 0, // grows with every message
    failed: "", // why the last question had no answer
    readout: "",
    width: 0,
  };
}

// What a function returns, computed again only if the key changed.
export function remembered(app, name, key, make) {
  const wanted = JSON.stringify(key), last = app.kept.get(name);
  if (last && last[0] === wanted) return last[1];
  const value = make();
  app.kept.set(name, [wanted, value]);
  return value;
}

// The same for a generator, which may stop in between.
export function* rememberedSteps(app, name, key, make) {
  const wanted = JSON.stringify(key), last = app.kept.get(name);
  if (last && last[0] === wanted) return last[1];
  const value = yield* make();
  app.kept.set(name, [wanted, value]);
  return value;
}

const lookOf = ({ window, epoch }) => `${window}|${epoch}`;
export const bandsOf = (app, s) => app.bands.get(`${s.look}|${s.reference}|${s.relative}`);
export const mapsOf = (app, s, image) => app.maps.get(`${s.epoch}|${image}`);

// The present choice, and what is known about it.
export function readState(app) {
  const { model, meta } = app, get = (name) => model.get(name), last = meta.stages.length - 1;
  const at = meta.stages.indexOf(get("stage")), image = get("image");
  const s = {
    names: meta.networks, stage: at < 0 ? last : at, network: get("network"), reference: get("reference"),
    image: meta.images.includes(image) ? image : ALL,
    relative: get("relative"), window: get("window"), epoch: get("epoch"), brush: get("brush"),
    profile: get("profile"), band: { rings: get("rings"), angles: get("angles") },
  };
  s.look = lookOf(s);
  s.size = meta.sizes[s.stage];
  s.grid = gridOf(s.size);
  s.mean = app.spectra.get(s.look);
  s.complete = s.mean?.count === meta.count;
  const found = s.image === ALL ? s.mean?.stages : app.planes.get(`${s.look}|${s.image}`);
  s.found = found?.[s.stage];
  s.present = s.found ? s.names.filter((name) => s.found[name]) : [];
  s.others = s.present.filter((name) => name !== s.reference);
  s.key = [s.look, s.stage, s.image, s.relative, s.mean?.count];
  s.subject = s.image === ALL ? firstOf(app, s) : s.image;
  return s;
}

// Spectra and curves of the networks that have the stage, as `relative` says.
export function shownOf(app, s) {
  return remembered(app, "shown", s.key, () => {
    const planes = {}, radial = {}, angular = {};
    for (const name of s.present) {
      const { plane, loudness, dc } = s.found[name], out = { mean: loudness, dc, none: 0 }[s.relative];
      planes[name] = plane.map((value) => value - out);
      radial[name] = radialCurve(s.grid, planes[name]);
      angular[name] = angularCurve(s.grid, planes[name]);
    }
    return { planes, radial, angular };
  });
}

// By network the share of the band in each image, its mean and the interval of the mean; null while nothing is known.
export function bandShares(app, s) {
  const cells = app.cells.get(s.look), found = cells?.stages[s.stage];
  if (!found) return null;
  return remembered(app, "shares", [s.look, s.stage, s.band, cells.images.length], () => {
    const shares = {};
    for (const [name, values] of Object.entries(found)) {
      const each = sharesOf(values, cells.images.length, s.band);
      shares[name] = { each, mean: mean(each), interval: interval(each) };
    }
    return { images: cells.images, shares };
  });
}

// Images in which the band has the largest share of the network's energy, as [image, share]; without a band in order.
export function most(app, s, count) {
  const found = bandShares(app, s), own = found?.shares[s.network]?.each;
  if (!own) return [];
  const sorted = () => (isWhole(s.band) ? [...own.keys()] : largestFirst(own));
  const order = remembered(app, "order", [s.look, s.stage, s.band, s.network, own.length], sorted);
  return order.slice(0, count).map((at) => [found.images[at], own[at]]);
}

function firstOf(app, s) {
  return most(app, s, 1)[0]?.[0] ?? app.meta.images[0];
}

// Keep what a message from the kernel, or of a saved page, holds.
export function receive(app, content, buffers) {
  const take = {
    spectra: takeSpectra, bands: takeBands, cells: takeCells, planes: takePlanes, maps: takeMaps, thumbs: takeThumbs,
  };
  app.version++;
  app.failed = content.kind === "failed" ? content.words : "";
  take[content.kind]?.(app, content, buffers.map(bytesOf));
}

const floats = (bytes) => new Float32Array(bytes.slice().buffer);
const shorts = (bytes) => new Int16Array(bytes.slice().buffer);

// Stages {network: facts} with the plane of each network, whose buffers stand one after the other.
function withPlanes(stages, buffers) {
  let at = 0;
  return stages.map((stage) => Object.fromEntries(Object.entries(stage).map(([name, facts]) => {
    const plane = Float32Array.from(shorts(buffers[at++]), (code) => code / 100);
    return [name, { ...facts, plane }];
  })));
}

function takeSpectra(app, content, buffers) {
  app.spectra.set(lookOf(content), { count: content.count, stages: withPlanes(content.stages, buffers) });
}

function takePlanes(app, content, buffers) {
  const atEnd = app.planes.get(`${lookOf({ ...content, epoch: 0 })}|${content.position}`);
  app.planes.set(`${lookOf(content)}|${content.position}`, merged(atEnd, withPlanes(content.stages, buffers)));
}

// A saved page holds of an epoch only the networks that have its checkpoint; the others are as at the end.
function merged(atEnd, stages) {
  return stages.map((stage, at) => ({ ...atEnd?.[at], ...stage }));
}

function takeBands(app, content, buffers) {
  const stages = content.stages.map(({ names, others, base }, stage) => {
    const values = floats(buffers[stage]), radial = gridOf(app.meta.sizes[stage]).last + 1;
    let at = 0;
    const take = (list, length) => Object.fromEntries(list.map((name) => {
      const ends = [values.subarray(at, at + length), values.subarray(at + length, at + 2 * length)];
      at += 2 * length;
      return [name, ends];
    }));
    const found = { base, radial: take(names, radial), radialGaps: take(others, radial) };
    return { ...found, angular: take(names, 12), angularGaps: take(others, 12) };
  });
  const { reference, relative, count } = content;
  app.bands.set(`${lookOf(content)}|${reference}|${relative}`, { count, stages });
}

function takeCells(app, content, buffers) {
  let at = 0;
  const sharesIn = (bytes) => Float32Array.from(new Uint16Array(bytes.slice().buffer), (code) => (code / 65535) ** 2);
  const stages = content.stages.map((names) =>
    Object.fromEntries(names.map((name) => [name, sharesIn(buffers[at++])])));
  const atEnd = app.cells.get(lookOf({ ...content, epoch: 0 }))?.stages;
  app.cells.set(lookOf(content), { images: content.images, stages: merged(atEnd, stages) });
}

function takeMaps(app, { epoch, position, stages }, buffers) {
  let at = 1;
  const decoded = stages.map((stage) => Object.fromEntries(Object.entries(stage).map(([name, facts]) => {
    const bytes = buffers[at++], codes = facts.most > 127 ? shorts(bytes) : new Int8Array(bytes.slice().buffer);
    return [name, { ...facts, values: Float32Array.from(codes, (code) => code / facts.most * facts.top) }];
  })));
  const atEnd = app.maps.get(`0|${position}`), held = { picture: null, stages: merged(atEnd?.stages, decoded) };
  app.maps.set(`${epoch}|${position}`, held);
  decode(buffers[0]).then((bitmap) => {
    held.picture = pixelsOf(bitmap);
    app.redraw();
  });
}

function takeThumbs(app, { positions, labels }, buffers) {
  positions.forEach((image, n) => {
    app.thumbs.set(image, { label: labels[n], bitmap: null });
    decode(buffers[n]).then((bitmap) => {
      app.thumbs.get(image).bitmap = bitmap;
      app.redraw();
    });
  });
}

// The nearest ring that the grid has a curve for.
export const ringIn = (grid, ring) => clamp(ring, 1, grid.last);
