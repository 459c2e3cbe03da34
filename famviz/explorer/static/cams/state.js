// The data of a CAM explorer: what the kernel has sent so far, and the present choice.
import { decode, pixelsOf } from "../shared/bitmap.js";
import { decodeTables } from "../shared/colour.js";
import { clamp } from "../shared/numbers.js";
import { bytesOf } from "../shared/widget.js";

const ANSWERS = { // of the reference and the network that is compared with it
  all: () => true,
  "both right": (one, other) => one && other,
  "only the reference right": (one, other) => one && !other,
  "only the other right": (one, other) => !one && other,
  "both wrong": (one, other) => !one && !other,
};
const QUARTER = 0.25; // of the images counts as low or high agreement

export function makeApp(model) {
  const meta = model.get("_meta");
  return {
    model, meta,
    tables: decodeTables(meta.tables),
    facts: new Map(), // by image: {label, predicted, p}, both by network
    thumbs: new Map(), // by image: a bitmap
    pictures: new Map(), // by image: its pixels as ImageData, or null while they are decoded
    maps: new Map(), // by key and image: by network {evidence, h, w, label, p, why, layer, figures} or {refused}
    areas: new Map(), // by key, image and network: {insertion, deletion}
    points: null, // embedding by network
    similar: new Map(), // by network: CKA with the reference {stages, values, count}
    version: 0, // grows with every message
    failed: "", // why the last question had no answer
    readout: "",
    first: 0, // position in the list of the first image on the wall
    hidden: false, // whether maps are taken off the image for a moment
    paused: false,
    width: 0,
  };
}

const keyOf = ({ method, layer, target }) => [method, layer, target].join("|");
export const mapsOf = (app, key, image) => app.maps.get(`${key}|${image}`);

// The present choice, and the images that it leaves, in order.
export function readState(app) {
  const { model, meta } = app, get = (name) => model.get(name);
  const choice = { method: get("method"), layer: get("layer"), target: get("target") };
  const names = meta.networks, reference = names[meta.reference];
  const others = names.filter((name) => name !== reference);
  const other = others.includes(get("other")) ? get("other") : others[0] ?? reference;
  const s = {
    ...choice, names, reference, others, other,
    key: keyOf(choice),
    image: clamp(get("image"), 0, meta.count - 1),
    scale: get("scale"), blend: get("blend"), top: get("top"), areas: get("areas"),
    class: get("only_class"), answer: get("only_answer"), only: get("only"), agreement: get("agreement"),
    order: get("order"), figure: get("figure"), plot: get("plot"), view: get("view"),
    of: names.includes(get("of")) ? get("of") : other,
  };
  s.list = listed(app, s);
  s.shown = mapsOf(app, s.key, s.image);
  return s;
}

// A figure of the compared network on an image; null if it is unknown or does not exist.
export function figureOf(app, s, image, figure = s.figure) {
  return mapsOf(app, s.key, image)?.[s.other]?.figures?.[figure] ?? null;
}

// Whether a network is right; without labels, whether it answers as the reference does.
export function isGood(s, { label, predicted }, name) {
  return predicted[name] === (label ?? predicted[s.reference]);
}

// The images that pass the filters, in the chosen order. Images that are not known yet come last.
function listed(app, s) {
  const images = app.meta.images.filter((image) => passes(app, s, image));
  const kept = byAgreement(app, s, images);
  if (s.order === "position") return kept;
  const value = s.order === "agreement"
    ? (image) => figureOf(app, s, image)
    : (image) => app.facts.get(image)?.p[s.other] ?? null;
  return sortBy(kept, value);
}

function passes(app, s, image) {
  const facts = app.facts.get(image);
  if (s.class < 0 && s.answer < 0 && s.only === "all") return true;
  if (!facts) return false;
  if (s.answer >= 0 && facts.predicted[s.other] !== s.answer) return false;
  if (s.class >= 0 && (facts.label ?? facts.predicted[s.reference]) !== s.class) return false;
  if (s.only === "all") return true;
  if (s.only === "other answers") return facts.predicted[s.reference] !== facts.predicted[s.other];
  return ANSWERS[s.only](isGood(s, facts, s.reference), isGood(s, facts, s.other));
}

// The quarter of the images with the lowest or the highest agreement, of those whose maps are known.
function byAgreement(app, s, images) {
  if (s.agreement === "all") return images;
  const known = sortBy(images.filter((image) => figureOf(app, s, image) != null), (image) => figureOf(app, s, image));
  const count = Math.ceil(QUARTER * known.length);
  const kept = new Set(s.agreement === "low" ? known.slice(0, count) : known.slice(known.length - count));
  return images.filter((image) => kept.has(image));
}

function sortBy(images, value) {
  const values = new Map(images.map((image) => [image, value(image) ?? Infinity]));
  return [...images].sort((a, b) => (values.get(a) === values.get(b) ? a - b : values.get(a) - values.get(b)));
}

// The name of a class.
export function called(app, label) {
  return app.meta.classes[label] ?? `class ${label}`;
}

// Keep what a message from the kernel, or of a saved page, holds.
export function receive(app, content, buffers) {
  const take = {
    facts: takeFacts, pictures: takePictures, maps: takeMaps, areas: takeAreas, embedding: takePoints,
    cka: (_, { other, ...found }) => app.similar.set(other, found),
  };
  app.version++;
  app.failed = content.kind === "failed" ? content.words : "";
  take[content.kind]?.(app, content, buffers.map(bytesOf));
}

function takeFacts(app, { positions, labels, predicted, p }, buffers) {
  positions.forEach((image, n) => {
    const pick = (lists) => Object.fromEntries(Object.entries(lists).map(([name, list]) => [name, list[n]]));
    app.facts.set(image, { label: labels ? labels[n] : null, predicted: pick(predicted), p: pick(p) });
    decode(buffers[n]).then((bitmap) => {
      app.thumbs.set(image, bitmap);
      app.redraw();
    });
  });
}

function takePictures(app, { positions }, buffers) {
  positions.forEach((image, n) => {
    app.pictures.set(image, null);
    decode(buffers[n]).then((bitmap) => {
      app.pictures.set(image, pixelsOf(bitmap));
      app.redraw();
    });
  });
}

function takeMaps(app, { key, positions, networks }, buffers) {
  const names = Object.keys(networks);
  positions.forEach((image, n) => {
    const shown = {};
    names.forEach((name, k) => {
      shown[name] = networks[name].refused ? networks[name] : oneMap(networks[name], buffers[k], n);
    });
    app.maps.set(`${key}|${image}`, shown);
  });
}

function oneMap({ grid: [h, w], labels, p, why, layer, figures }, bytes, n) {
  const values = new Float32Array(bytes.slice(4 * h * w * n, 4 * h * w * (n + 1)).buffer);
  const own = Object.fromEntries(Object.entries(figures).map(([name, list]) => [name, list[n]]));
  return { evidence: values, h, w, label: labels[n], p: p[n], why: why[n], layer, figures: own };
}

function takeAreas(app, { key, position, network, insertion, deletion }) {
  app.areas.set(`${key}|${position}|${network}`, { insertion, deletion });
}

function takePoints(app, { networks, count }, buffers) {
  app.points = Object.fromEntries(networks.map((name, k) => [name, new Float32Array(buffers[k].slice().buffer)]));
  app.pointsOf = count; // number of images that were known then
}
