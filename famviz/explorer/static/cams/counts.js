// Predictions of all images that are known, counted: pairs of classes, classes by themselves, and bins of confidence.
import { isGood } from "./state.js";

const BINS = 10; // of confidence, of equal width

// The class by which images are sorted: the true one, or without labels what the reference says.
const classOfImage = (s, { label, predicted }) => label ?? predicted[s.reference];

// How many images of each class the compared network takes for which: {classes, counts, left}. Of more than `most`
// classes those are shown that are taken for another one most often; `left` is how many others there are.
export function confusionOf(app, s, most) {
  const pairs = new Map(), unlike = new Map();
  const add = (map, key, count) => map.set(key, (map.get(key) ?? 0) + count);
  for (const facts of app.facts.values()) {
    const down = classOfImage(s, facts), across = facts.predicted[s.other];
    add(pairs, `${down}|${across}`, 1);
    for (const label of [down, across]) add(unlike, label, down !== across);
  }
  const order = [...unlike.keys()].sort((a, b) => unlike.get(b) - unlike.get(a) || a - b);
  const classes = order.slice(0, most).sort((a, b) => a - b);
  const counts = classes.map((down) => classes.map((across) => pairs.get(`${down}|${across}`) ?? 0));
  return { classes, counts, left: order.length - classes.length };
}

// A row for each class: {label, images, same, right, sure}: shares 0..1 of the images that both networks answer alike,
// and by network of those that it has right, and its mean confidence.
export function byClass(app, s) {
  const found = new Map(), names = [s.reference, s.other];
  for (const facts of app.facts.values()) {
    const label = classOfImage(s, facts);
    if (!found.has(label)) found.set(label, []);
    found.get(label).push(facts);
  }
  const mean = (images, value) => images.reduce((sum, facts) => sum + value(facts), 0) / images.length;
  return [...found].map(([label, images]) => ({
    label, images: images.length,
    same: mean(images, ({ predicted }) => predicted[names[0]] === predicted[names[1]]),
    right: names.map((name) => mean(images, (facts) => isGood(s, facts, name))),
    sure: names.map((name) => mean(images, ({ p }) => p[name])),
  }));
}

// How often a network is right when it is so sure: {bins, error}, each bin that holds an image as
// {images, sure, right}, and the expected calibration error. Without labels it is compared with the answers of the
// reference.
export function calibrationOf(app, s, name) {
  const sums = Array.from({ length: BINS }, () => ({ images: 0, sure: 0, right: 0 }));
  for (const facts of app.facts.values()) {
    const bin = sums[Math.min(BINS - 1, Math.floor(facts.p[name] * BINS))];
    bin.images += 1;
    bin.sure += facts.p[name];
    bin.right += isGood(s, facts, name);
  }
  const bins = sums.filter(({ images }) => images)
    .map(({ images, sure, right }) => ({ images, sure: sure / images, right: right / images }));
  const all = bins.reduce((sum, { images }) => sum + images, 0);
  const error = bins.reduce((sum, { images, sure, right }) => sum + images * Math.abs(right - sure), 0) / all;
  return { bins, error };
}
